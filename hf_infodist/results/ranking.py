"""Checkpoints in the order of what the labels of a dataset cost when they are learnt from each."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.candidate import LAST, Candidate, table_of_baselines
from hf_infodist.results.codelength import stderr_of_sum
from hf_infodist.results.difference import ERRORS, Difference
from hf_infodist.results.records import ImagesRecord, package_versions
from hf_infodist.results.shown import Shown
from hf_infodist.results.words import Unit, amount, rounded
from hf_infodist.table import text_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SCHEMA = "infodist.transfer/1"


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Shown):
    """Checkpoints, those first from which the second half of the labels of a dataset costs least.

    The second half says how good a start is once the labels that there are have been learnt; all of them together are
    the codelength, which also holds how fast it learns (figures of both in ``studies/README.md``).

    Attributes:
        candidates: Best first.
        images: The sample.
        protocol: How labels were learnt and priced.
        classes: Names of the classes.
        counts: Labels of each class, ``[C]``.
        label: Column of the classes, if it was named.
    """

    candidates: tuple[Candidate, ...]
    images: ImagesRecord
    protocol: CodingProtocol
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    label: str | None = None

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        images: ImagesRecord,
        protocol: CodingProtocol,
        labels: Sequence[int],
        classes: Sequence[str],
        label: str | None = None,
    ) -> "Ranking":
        """Put candidates in order; of those that cost the same, by name."""
        found = Counter(labels)
        ordered = tuple(sorted(candidates, key=lambda one: (one.tail_nats, one.id)))
        counts = tuple(found[i] for i in range(len(classes)))
        return cls(ordered, images, protocol, tuple(classes), counts, label)

    @property
    def best(self) -> Candidate:
        """The one from which the labels of the second half cost least."""
        return self.candidates[0]

    @property
    def tied(self) -> tuple[Candidate, ...]:
        """The others whose second half costs no more than chance explains."""
        return tuple(one for one in self.candidates[1:] if self.behind(one).tied)

    @cached_property
    def frequency_nats(self) -> float:
        """What the labels cost somebody who knows only how frequent each class is, and sees no image."""
        shares = [count / self.images.k for count in self.counts if count]
        return self.images.k * -math.fsum(share * math.log(share) for share in shares)

    def saved_nats(self, candidate: Candidate) -> float:
        """Return how much less the labels cost from a candidate than by class frequencies alone."""
        return self.frequency_nats - candidate.nats

    def behind(self, candidate: Candidate, part: slice | None = None) -> Difference:
        """Return how much more a candidate costs than the best, on the second half or on another part."""
        here = part or slice(self.images.k // 2, None)
        return Difference.of(candidate.image_nats[here], self.best.image_nats[here], self.protocol.orders)

    def ahead_until(self, candidate: Candidate) -> int | None:
        """Return up to about how many labels a candidate is ahead of the best; None if that is not to be seen.

        The first half has to cost less from it by more than chance explains. From where on each further label costs
        more from it, the best is the better start.
        """
        first = self.behind(candidate, slice(0, self.images.k // 2))
        if first.nats >= 0 or first.tied:
            return None
        return 1 + int(np.argmin(np.cumsum(candidate.image_nats - self.best.image_nats)))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.transfer/1``; nats throughout."""
        return {
            "schema": SCHEMA,
            "models": [self._fields(rank, one) for rank, one in enumerate(self.candidates, 1)],
            "images": vars(self.images).copy(),
            "label": self.label,
            "classes": dict(zip(self.classes, self.counts, strict=True))
            if len(set(self.classes)) == len(self.classes)
            else list(self.counts),
            "frequency_nats": self.frequency_nats,
            "verdict": self.verdict,
            "protocol": self.protocol.to_dict(),
            "versions": package_versions(),
        }

    def _fields(self, rank: int, one: Candidate) -> dict[str, Any]:
        behind, tail = self.behind(one, slice(0, None)), self.behind(one)
        return {
            "model": one.id,
            "rank": rank,
            "tied_with_best": tail.tied,
            "nats": one.nats,
            "stderr_nats": _finite(one.code.stderr_nats),
            "nats_per_label": one.nats / self.images.k,
            "saved_nats_per_label": self.saved_nats(one) / self.images.k,
            "tail_nats": one.tail_nats,
            "tail_stderr_nats": _finite(self._tail_stderr(one)),
            "behind_nats": behind.nats,
            "behind_stderr_nats": _finite(behind.stderr_nats),
            "tail_behind_nats": tail.nats,
            "tail_behind_stderr_nats": _finite(tail.stderr_nats),
            "ahead_until": self.ahead_until(one),
            "accuracy": one.accuracy,
            "log_loss": one.log_loss,
            "curve": [list(point) for point in one.code.curve()],
            "forward_images": self.images.k,
            "gradient_images": one.code.gradient_images,
            "seconds": one.seconds,
            "library": one.model.library,
            "revision": one.model.revision,
        } | ({"baselines": dict(one.baselines)} if one.baselines else {})

    def _tail_stderr(self, one: Candidate) -> float:
        return math.sqrt(self.protocol.orders) * stderr_of_sum(one.image_nats[self.images.k // 2 :])

    @property
    def summary(self) -> str:
        """How many, and which is best."""
        return f"{len(self.candidates)} models, best {self.best.id}, {self.images}"

    @property
    def verdict(self) -> str:
        """What to do, in one sentence."""
        k = self.images.k
        if self.best.tail_nats >= self.frequency_nats * (k - k // 2) / k:
            return (
                "Start from none of these: their labels cost as much as without any image. "
                "More labels, or other checkpoints, may change that."
            )
        tied = _listed([one.id for one in self.tied])
        parts = [f"Start from {self.best.id}"]
        if tied:
            parts += [f"{tied} {'is' if len(self.tied) == 1 else 'are'} tied with it"]
        parts += [
            f"with fewer than about {_about(until)} labels {one.id} is ahead"
            for one in self.candidates
            if (until := self.ahead_until(one)) is not None
        ]
        return "; ".join(parts) + "."

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return the table and what to do."""
        k, seen = self.images.k, sum(count > 0 for count in self.counts)
        head = f"{k} labels of {self.images.id}, {seen} of {len(self.classes)} classes, seed {self.images.seed}"
        header = ("", f"{unit} per label", "±", "second half", "behind", "accuracy", "log loss", "seconds")
        rows = [self._row(one, unit) for one in self.candidates]
        table = text_table(header, rows, names=[one.id for one in self.candidates])
        floor = rounded(unit.of(self.frequency_nats) / k)[0]
        notes = [
            "second half: a label of it, once the first half is learnt; behind: the best there, paired by label,",
            f"± standard error; '=' is tied with it, within {ERRORS:g} of these.",
            f"accuracy, log loss ({unit}): of the last {max(1, k // LAST)} labels. Without any image a label costs "
            f"{floor} {unit}.",
        ]
        measured = table_of_baselines(self.candidates)
        return "\n".join([f"{head}, protocol {self.protocol.name}", table, *notes, *measured, self.verdict])

    def _row(self, one: Candidate, unit: Unit) -> list[str]:
        k, behind = self.images.k, self.behind(one)
        each = unit.each(one.nats, one.code.stderr_nats, k)
        half = k - k // 2
        apart = amount(*(unit.of(nats) / half for nats in (behind.nats, behind.stderr_nats)))
        return [
            one.id,
            *each,
            amount(unit.of(one.tail_nats) / half, unit.of(self._tail_stderr(one)) / half),
            "best" if one is self.best else f"{'= ' * behind.tied}{apart}",
            f"{100 * one.accuracy:.1f}%",
            rounded(unit.of(one.log_loss))[0],
            f"{one.seconds:.1f}",
        ]

    def plot(self) -> "Figure":
        """Draw what labels have cost after so many images, for each candidate, and without any image."""
        from hf_infodist.results.pictures import draw_learning, footer

        curves = {one.id: one.image_nats for one in self.candidates}
        return draw_learning(curves, self.frequency_nats / self.images.k, footer(self.images, self.protocol))

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each model, best first."""
        from hf_infodist.results.export import to_table

        rows = [self._fields(rank, one) | dict(one.baselines) for rank, one in enumerate(self.candidates, 1)]
        return to_table([{name: value for name, value in row.items() if name != "curve"} for row in rows], self.images)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def _about(number: int) -> str:
    """Return a number to two digits."""
    return f"{int(float(f'{number:.2g}')):,}"
