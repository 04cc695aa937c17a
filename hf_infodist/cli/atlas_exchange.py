"""Commands about atlases of others: models are run again, and atlases joined, here and on the Hub."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.cli.options import Output, command
from hf_infodist.cli.terminal import print_text, say
from hf_infodist.errors import InfodistError, UnfitError

if TYPE_CHECKING:
    from hf_infodist.analysis.atlas import Verified
    from hf_infodist.results.atlas.files import AtlasFile
    from hf_infodist.results.atlas.folder import Atlas, Joined

AtlasFolder = Annotated[Path, typer.Option("--atlas", help="The folder of the atlas.")]
AnyAtlas = Annotated[str, typer.Option("--atlas", help="The atlas: a folder, org/name of the Hub, or demo:digits.")]
_Repo = Annotated[str, typer.Argument(metavar="REPO", help="A dataset repository of the Hub: org/name.")]
_Models = Annotated[
    list[str] | None, typer.Argument(metavar="MODEL...", help="Which of its models; all of them if none is named.")
]
_Images = Annotated[
    str | None, typer.Option("--images", "-i", help="The images of the atlas, where they lie elsewhere than it says.")
]


@command
def verify_atlas(atlas: AnyAtlas, report: Output, models: _Models = None, images: _Images = None) -> None:
    """Run models of an atlas again and compare.

    Their weights are loaded, and the images of the atlas; the exit code is 4 if any differs or cannot be loaded.

    Example: infodist atlas verify --atlas atlas demo:cnn
    """
    from hf_infodist.results.atlas.shipped import open_atlas

    there, rows = open_atlas(atlas), []
    files = [there.find(name) for name in models] if models else list(there.files)
    for one in _verified(there, files, images):
        rows.append(vars(one).copy())
        print_text(f"{'same     ' if one.same else 'DIFFERENT'}  {one.model}{one.why and f': {one.why}'}".__str__)
    bad = [row["model"] for row in rows if not row["same"]]
    fields = {"schema": "infodist.atlas_verified/1", "atlas": atlas, "models": rows}
    report.show_fields(fields, f"{len(rows) - len(bad)} of {len(rows)} are the same", "\n".join(bad))
    if bad:
        raise typer.Exit(UnfitError.exit_code)


def _verified(there: "Atlas", files: "list[AtlasFile]", images: Any) -> "Iterator[Verified]":
    """Run models again, one after the other; one that cannot be is told."""
    from hf_infodist.analysis.atlas import Verified, load_atlas_images, verify_member

    drawn = load_atlas_images(there, images) if files else None
    for file in files:
        try:
            yield verify_member(file, drawn)  # type: ignore[arg-type]
        except InfodistError as error:
            yield Verified(file.entry.id, False, f"it cannot be run: {' '.join(str(error).splitlines()[:2])}")


@command
def merge_atlas(
    other: Annotated[Path, typer.Argument(metavar="FOLDER", help="Another atlas, of the same images.")],
    folder: AtlasFolder,
    report: Output,
) -> None:
    """Take over the models of another atlas.

    It is of the same images; models that are there already stay as they are.

    Example: infodist atlas merge /mnt/theirs --atlas atlas
    """
    from hf_infodist.results.atlas.folder import HEAD, Atlas

    theirs = Atlas.open(other, writable=False)
    mine = Atlas.open(folder) if (folder / HEAD).exists() else Atlas.begin(folder, theirs.head)
    _tell(mine.merge(theirs), "taken over", report)


@command
def push_atlas(
    repo: _Repo,
    folder: AtlasFolder,
    report: Output,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, if it is made now.")
    ] = False,
) -> None:
    """Add the models of an atlas to a dataset repository.

    It is made if need be, and no model there is written over.

    Example: infodist atlas push acme/atlas --atlas atlas --private
    """
    from hf_infodist.results.atlas.folder import Atlas
    from hf_infodist.results.atlas.hub import push

    _tell(push(Atlas.open(folder), repo, private=private), "added", report)


@command
def pull_atlas(repo: _Repo, folder: AtlasFolder, report: Output, models: _Models = None) -> None:
    """Take over models of a dataset repository.

    Only what is not there yet is fetched, and nothing is written over.

    Example: infodist atlas pull acme/atlas --atlas atlas
    """
    from hf_infodist.results.atlas.hub import pull

    _tell(pull(repo, folder, models or ()), "taken over", report)


def _tell(joined: "Joined", verb: str, report: Output) -> None:
    """Say what came of an exchange; files that cannot be read have their exit code."""
    for name in joined.unreadable:
        say(f"unreadable: {name} was left where it is")
    fields = {"schema": "infodist.atlas_merged/1"} | {name: list(values) for name, values in vars(joined).items()}
    text = f"{len(joined.new)} {verb}, {len(joined.same)} there already"
    report.show_fields(fields, text, "\n".join(joined.new))
    if joined.unreadable:
        raise typer.Exit(UnfitError.exit_code)
