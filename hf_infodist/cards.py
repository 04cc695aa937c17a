"""A section for a model's card: its nearest checkpoints by information distance, as a table and as data."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.hub import refusal
from hf_infodist.models.names import locate
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.distance import InformationDistance
from hf_infodist.results.records import ModelRecord, package_versions
from hf_infodist.results.words import Unit, amount, to_bits

SCHEMA = "infodist.card/1"
CARD, DATA = "README.md", "infodist.yaml"
_TITLE = "Nearest checkpoints by information distance"
_HEAD = ("| checkpoint | distance | this given it | it given this | total |", "|---|---:|---:|---:|---:|")
_MEANING = (
    "*This given it* is what it costs to turn a copy of the checkpoint into this model: each image is paid for before "
    "it is learnt from, with the Kullback-Leibler divergence. The distance is the larger of the two directions, with "
    "its standard error over the images; 0 would mean the same function on them. It does not say which is better. "
    "Compare only distances that share images and protocol."
)
_BEGIN, _END = "<!-- infodist card: begin -->", "<!-- infodist card: end -->"


@dataclass(frozen=True, eq=False)
class NearestCheckpoints:
    """Distances from one model to others on the same images, nearest first.

    Attributes:
        results: One comparison each, in all of which the model is the first of the two.
    """

    results: tuple[InformationDistance, ...]

    @classmethod
    def of(cls, results: Iterable[InformationDistance]) -> "NearestCheckpoints":
        """Sort comparisons by distance.

        Raises:
            UnfitError: If they are not of one model, on the same images, under one protocol.
        """
        ordered = tuple(sorted(results, key=lambda result: result.nats))
        first = ordered[0]
        for result in ordered:
            if (result.model_a, result.images, result.protocol) != (first.model_a, first.images, first.protocol):
                raise UnfitError(
                    f"the distances to {first.model_b.id} and {result.model_b.id} do not go into one table",
                    "they are not of the same model, images and protocol; a dataset may have changed in between",
                    "compare again; name the dataset as org/name@revision if it changes often",
                )
        return cls(ordered)

    @property
    def model(self) -> ModelRecord:
        """The model whose neighbours these are."""
        return self.results[0].model_a

    def to_dict(self) -> dict[str, Any]:
        """Return the data as JSON types, schema ``infodist.card/1``."""
        first = self.results[0].to_dict()
        return {
            "schema": SCHEMA,
            **{name: first[name] for name in ("images", "protocol")},
            "model": first["model_a"],
            "nearest": [
                {
                    "model": result["model_b"],
                    **result["distance"],
                    "this_given_it": result["a_given_b"]["nats"],
                    "it_given_this": result["b_given_a"]["nats"],
                }
                for result in (each.to_dict() for each in self.results)
            ],
            "versions": package_versions(),
        }

    def to_yaml(self) -> str:
        """Return the data as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_markdown(self) -> str:
        """Return the section, between two comments by which `insert_section` finds it again."""
        images, protocol = self.results[0].images, self.results[0].protocol
        known = {name: getattr(images, name) for name in ("config", "split", "seed")}
        parts = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
        sample = f"{images.k:,} images of {_escaped(images.id)} ({parts}), protocol `{protocol.name}`"
        rows = [
            f"| {_link(result.model_b)} | {rates} | {amount(to_bits(result.nats), to_bits(result.stderr_nats))} |"
            for result in self.results
            for rates in [" | ".join(map(_rate, (result.larger, result.a_given_b, result.b_given_a)))]
        ]
        made = f"All figures and settings are in [{DATA}]({DATA}), made by hf-infodist {version('hf-infodist')} with"
        lines = [
            _BEGIN,
            f"## {_TITLE}",
            "",
            *_HEAD,
            *rows,
            "",
            f"In bits per image, and in all, on {sample}. {_MEANING} {made}",
            "",
        ]
        return "\n".join([*lines, "```bash", self._command(), "```", _END])

    def _command(self) -> str:
        """Return the command that measures this again, on the very commits."""
        images, protocol = self.results[0].images, self.results[0].protocol
        words = ["infodist", "card", self.model.pinned]
        for result in self.results:
            words += ["--among", result.model_b.pinned]
        words += ["--images", images.pinned, "-k", str(images.k)]
        for name in ("config", "split", "column"):
            words += [f"--{name}", value] if (value := getattr(images, name)) else []
        words += ["--orders", str(protocol.orders)] if protocol.orders > 1 else []
        return shlex.join([*words, "--seed", str(images.seed), "--protocol", protocol.name])


def insert_section(card: str, section: str) -> str:
    """Put a section into a card: where it was before, else at the end."""
    old = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    if old.search(card):
        return old.sub(lambda _: section, card, count=1)
    return f"{card.rstrip()}\n\n{section}\n" if card.strip() else f"{section}\n"


def write_section(nearest: NearestCheckpoints, folder: Path) -> None:
    """Put the section and its data into a folder, such as a clone of the model's repository."""
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / CARD
    old = card.read_text(encoding="utf-8") if card.exists() else ""
    card.write_text(insert_section(old, nearest.to_markdown()), encoding="utf-8")
    (folder / DATA).write_text(nearest.to_yaml(), encoding="utf-8")


def check_comparisons(model: str, among: Sequence[str]) -> None:
    """Refuse names that lead nowhere, or that come twice, before the first comparison.

    Raises:
        UsageError: If a name comes twice.
        NotFoundError: If a name leads nowhere.
        UnfitError: If it leads to something that is not an image classifier.
    """
    names = [model, *among]
    for name in names:
        if names.count(name) > 1:
            why = "a model is at distance 0 from itself, and no row is needed twice"
            raise UsageError(f"{name!r} is named twice", why, "name each model once")
        locate(name, has_transform=False)


def check_pull_request(model: str, among: Sequence[str], images: str) -> str:
    """Return the repository that a pull request goes to, or say why there cannot be one; nothing is sent.

    Raises:
        UsageError: If the model is in no repository, if nobody is signed in, or if others do not have what is named.
    """
    from huggingface_hub import get_token

    source = locate(model, has_transform=False)
    if source.fresh or not source.repo:
        why, fix = "a pull request goes to a repository of the Hub", "use --into FOLDER instead of --pull-request"
        raise UsageError(f"{model!r} is in no repository", why, fix)
    for name in (*among, images):
        if Path(name).expanduser().exists():
            why = "readers of the card could not follow it, and it would show your folders"
            raise UsageError(f"{name!r} is on this machine only", why, "name what is on the Hub, or use --into FOLDER")
    if get_token() is None:
        raise UsageError("nobody is signed in", "a pull request needs a token of the Hub", "run: hf auth login")
    return source.repo


def open_pull_request(repo: str, nearest: NearestCheckpoints) -> str:
    """Propose the section and its data to the owners of a repository; return the address of the pull request.

    Raises:
        NotFoundError: If the repository cannot be reached, or takes no pull request from this user.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(library_name="hf_infodist", library_version=version("hf-infodist"))
    try:
        head = api.model_info(repo).sha
        card = insert_section(_card_of(api, repo, head), nearest.to_markdown())
        files = {CARD: card, DATA: nearest.to_yaml()}
        commit = api.create_commit(
            repo,
            [CommitOperationAdd(path, text.encode()) for path, text in files.items()],
            commit_message=_TITLE,
            commit_description=f"Made by {nearest._command()}",
            create_pr=True,
            parent_commit=head,
        )
    except (HfHubHTTPError, OSError) as error:
        raise refusal("model", repo, None, error) or _unsent(repo, error) from error
    return str(commit.pr_url)


def _card_of(api: Any, repo: str, revision: str | None) -> str:
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(api.hf_hub_download(repo, CARD, revision=revision)).read_text(encoding="utf-8")
    except RemoteEntryNotFoundError:
        return ""


def _unsent(repo: str, error: Exception) -> NotFoundError:
    what, why = f"no pull request could be opened in {repo!r}", str(error).splitlines()[0]
    return NotFoundError(what, why, "try again, or use --into FOLDER and send the files yourself")


def _rate(code: Codelength) -> str:
    return " ± ".join(filter(None, Unit.BITS.each(code.nats, code.stderr_nats, len(code.image_nats))))


def _link(model: ModelRecord) -> str:
    from huggingface_hub import constants

    repo = model.id.partition("@")[0]
    if model.revision is None or ":" in repo:
        return _escaped(model.id)
    return f"[{_escaped(model.id)}]({constants.ENDPOINT}/{repo}/tree/{model.revision})"


def _escaped(text: str) -> str:
    return re.sub(r"([|\[\]*_`<\\])", r"\\\1", text)
