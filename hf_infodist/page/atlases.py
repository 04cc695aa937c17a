"""Which atlases a page has, what may be asked of them, and what they answer without any computing."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_infodist.analysis.neighbours import Neighbours
from hf_infodist.errors import InfodistError
from hf_infodist.models.declared import declared_in_atlas
from hf_infodist.page.atlas_matrix import kept_matrix
from hf_infodist.page.placing import NEAREST, Mapping, Placing
from hf_infodist.page.request import Limits, Refusal, how_many, model_of, near, one_of, shown
from hf_infodist.results.atlas.entry import AtlasEntry
from hf_infodist.results.atlas.folder import HEAD, MODELS, Atlas
from hf_infodist.results.atlas.shipped import SHIPPED, open_atlas
from hf_infodist.results.matrix import PairwiseMatrix

_LONGEST = 1000  # characters of the name of a folder
_SHIPPED_ALONE = "this page has the atlases that came with it, and reads no other"
_MOST = 8  # names that are suggested


class Atlases:
    """The atlases of a page. Strangers choose among those that came with it, and name no folder.

    Args:
        limits: Who comes.
        folder: Where matrices are kept.
        own: An atlas of this machine that the page offers too.
    """

    def __init__(self, limits: Limits, folder: Path, own: str = ""):
        self.limits, self.folder = limits, folder
        self.names = tuple(dict.fromkeys([*([own] if own else []), *SHIPPED]))

    def open(self, word: Any) -> Atlas:
        """Open an atlas that is named from outside; it is only read.

        Raises:
            Refusal: If it is not taken, or is none.
        """
        if not isinstance(word, str) or word.strip() not in self.names:
            word = self._folder(word)
        try:
            return _open(word.strip(), _changed(word.strip()))
        except (InfodistError, OSError) as error:
            told = (error.what, error.why, error.fix) if isinstance(error, InfodistError) else _unreadable(word, error)
            raise Refusal("atlas", *told) from error

    def _folder(self, word: Any) -> str:
        if self.limits.public:
            return one_of("atlas", word, self.names, _SHIPPED_ALONE)
        name = word.strip() if isinstance(word, str) else ""
        if name and len(name) <= _LONGEST and name.isprintable():
            return name
        what = f"{shown(word)} is no name" if name else "there is no atlas here yet"
        raise Refusal("atlas", what, "an atlas is a folder", f"type its name, or choose {self.names[0]}")

    def placing(self, model: Any, atlas: Any, n: Any = NEAREST) -> Placing:
        """Return a question made of values from outside; strangers ask about models of the atlas alone.

        Raises:
            Refusal: If one of them is not taken; it names the box.
        """
        opened = self.open(atlas)
        name = model.strip() if isinstance(model, str) else ""
        if name not in opened.names:
            if self.limits.public:
                raise _no_member(model, str(atlas).strip(), opened.names)
            name = model_of("model", model, self.limits)
        return Placing(name, str(atlas).strip(), opened.head.images.k, how_many(n))

    def mapping(self, atlas: Any) -> Mapping:
        """Return the question for the map of an atlas that is named from outside; `Refusal` if it is none."""
        if self.limits.public:
            word = one_of("atlas", atlas, self.names, _SHIPPED_ALONE)
            what, why = f"{word} has no map here yet", "it is not computed for visitors"
            raise Refusal("atlas", what, why, f"infodist map --atlas {word} draws it on your own machine")
        return Mapping(str(atlas).strip(), self.open(atlas).head.images.k)

    def matrix(self, atlas: Atlas) -> PairwiseMatrix | None:
        """Return all distances of an atlas, if they have been computed."""
        return kept_matrix(self.folder, atlas)

    def find(self, question: Placing) -> dict[str, Any] | None:
        """Return the answer about a model of an atlas, as ``infodist nearest --json`` prints it, if it is known."""
        try:
            atlas = self.open(question.atlas)
        except Refusal:
            return None  # it has gone meanwhile: the process that is asked says so
        matrix = self.matrix(atlas) if question.model in atlas.names else None
        if matrix is None:
            return None
        declared = declared_in_atlas(atlas, question.model)
        return Neighbours.of(matrix, question.model, question.n, declared).to_dict()

    def suggest(self, text: Any, atlas: Any) -> list[str]:
        """Return names of an atlas that fit what was typed."""
        try:
            names = self.open(atlas).names
        except Refusal:
            return []
        typed = str(text)[:_LONGEST].strip().lower()
        return [name for name in names if typed in name.lower()][:_MOST]


def matches(entry: AtlasEntry, text: str) -> bool:
    """Tell whether the name, the architecture or a base of a model contains a text."""
    return any(text.lower() in word.lower() for word in (entry.id, entry.architecture, *entry.base_models))


def _no_member(model: Any, atlas: str, names: list[str]) -> Refusal:
    name = str(model or "").strip()
    what = f"{shown(name)} is no model of {atlas}" if name else "there is no model here yet"
    meant = near(name, names)
    fix = f"did you mean {' or '.join(meant)}?" if meant else f"type one of its {len(names)} models, as {names[0]}"
    return Refusal("model", what, "this page answers from the atlas, and runs no other model for it", fix)


def _unreadable(word: str, error: OSError) -> tuple[str, str, str]:
    why = error.strerror or type(error).__name__
    return f"{shown(word)} cannot be read", why, "type the folder of an atlas"


def _changed(word: str) -> tuple[int, ...]:
    """Return when an atlas last changed, in nanoseconds of the clock of its files."""
    folder = SHIPPED.get(word) or Path(word).expanduser()
    return tuple(path.stat().st_mtime_ns for path in (folder / HEAD, folder / MODELS) if path.exists())


@lru_cache(maxsize=8)
def _open(word: str, changed: tuple[int, ...]) -> Atlas:
    """Open an atlas, once as long as it stays the same; damaged files are left out and stay where they are."""
    return Atlas.open(open_atlas(word).folder, writable=False)
