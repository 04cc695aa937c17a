"""Commands about atlases: models are put into one, and listed."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hf_infodist.cli.atlas_exchange import (
    AnyAtlas,
    AtlasFolder,
    merge_atlas,
    pull_atlas,
    push_atlas,
    verify_atlas,
)
from hf_infodist.cli.matrix import read_names
from hf_infodist.cli.options import ManyModels, Output, command
from hf_infodist.cli.terminal import say
from hf_infodist.errors import UnfitError
from hf_infodist.images.request import Sample
from hf_infodist.table import text_table

if TYPE_CHECKING:
    from hf_infodist.images.sample import Images
    from hf_infodist.results.atlas.folder import Atlas

atlas = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make and exchange atlases: what is needed to compare with models that are not at hand.",
)


@atlas.command("add")
@command
def add_to_atlas(models: ManyModels, folder: AtlasFolder, sample: Sample, report: Output) -> None:
    """Run models, and put their outputs into an atlas.

    The first models begin the atlas; those that are added later take its images, if none are named. Several
    processes may add to one folder. A model that fails is told, the rest goes on, and the exit code is 4.

    Example: infodist atlas add demo:cnn demo:vit --atlas atlas -i digits -k 400
    """
    names = read_names(models)
    say(f"loading the images of {folder}" if _has_begun(folder) else f"loading {sample.images}")
    there, images = _open(folder, sample)
    from hf_infodist.analysis.atlas import add_models
    from hf_infodist.pair import Execution

    execution = Execution()
    say(f"running {len(names)} models on {len(images)} images")
    added = add_models(there, names, images, execution=execution, on_model=lambda name: say(f"  {name}"))
    for name, why in added.failed.items():
        say(f"{name} failed: {why}")
    fields = {"schema": "infodist.atlas_added/1", "atlas": str(folder)} | {
        name: list(value) if isinstance(value, tuple) else value for name, value in vars(added).items()
    }
    text = f"{len(added.new)} added, {len(added.there)} there already"
    text += f", {len(added.elsewhere)} being added by others" if added.elsewhere else ""
    next = f"'infodist nearest MODEL --atlas {folder}' places a model among them"
    report.show_fields(fields, text, "\n".join(added.new), next)
    if added.failed:
        raise typer.Exit(UnfitError.exit_code)


def _has_begun(folder: Path) -> bool:
    from hf_infodist.results.atlas.folder import HEAD

    return (folder / HEAD).exists()


def _open(folder: Path, sample: Sample) -> "tuple[Atlas, Images]":
    """Return an atlas and its images; it is begun if there is none."""
    from hf_infodist.analysis.atlas import head_of, load_atlas_images
    from hf_infodist.images.sample import load_images
    from hf_infodist.results.atlas.folder import Atlas

    if _has_begun(folder) and sample == Sample():
        there = Atlas.open(folder)
        return there, load_atlas_images(there)
    images = load_images(sample)
    return Atlas.begin(folder, head_of(images)), images


@atlas.command("ls")
@command
def list_atlas(folder: AnyAtlas, report: Output) -> None:
    """List the models of an atlas, and its images.

    Example: infodist atlas ls --atlas demo:digits
    """
    from hf_infodist.results.atlas.index import to_row
    from hf_infodist.results.atlas.shipped import open_atlas

    there = open_atlas(folder)
    rows = [to_row(file) for file in there.files]
    fields = {
        "schema": "infodist.atlas_models/1",
        "atlas": folder,
        "images": vars(there.head.images).copy(),
        "models": rows,
    }
    size = sum(row["bytes"] for row in rows) / 1e6
    text = f"{len(rows)} models on {there.head.images}, {size:.3g} MB\n{_table(rows)}"
    next = f"'infodist nearest MODEL --atlas {folder}' places a model among them"
    report.show_fields(fields, text, "\n".join(there.names), next)


def _table(rows: list[dict[str, Any]]) -> str:
    header = ("", "architecture", "weights", "classes", "accuracy", "made from", "licence", "MB", "made")
    cells = [
        (
            row["model"],
            row["architecture"],
            f"{row['parameters']:,}",
            str(row["num_classes"]),
            "" if row["accuracy"] is None else f"{row['accuracy']:.1%}",
            ", ".join(row["base_model"]),
            row["licence"] or "",
            f"{row['bytes'] / 1e6:.3g}",
            row["made"],
        )
        for row in rows
    ]
    return text_table(header, cells, left=(0, 1, 5, 6, 8), names=[row["model"] for row in rows])


for name, exchange in (("verify", verify_atlas), ("merge", merge_atlas), ("pull", pull_atlas), ("push", push_atlas)):
    atlas.command(name)(exchange)
