"""Commands that ask all pairs of several models who was made from whom, and who goes well with whom."""

from typing import Annotated

import typer

from hf_infodist.cli.matrix import live, read_names, set_up_worker
from hf_infodist.cli.options import (
    DEFAULT_IMAGES,
    MODEL,
    ColumnOption,
    ConfigOption,
    ImagesOption,
    JsonOption,
    KOption,
    MatrixOption,
    OrdersOption,
    OutputOption,
    ProtocolOption,
    SeedOption,
    SplitOption,
    StreamingOption,
    WorkersOption,
)
from hf_infodist.cli.terminal import show
from hf_infodist.errors import UsageError


def lineage(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL... | FILE", help=f"{MODEL}; or a file, a name a line")
    ] = None,
    matrix: MatrixOption = None,
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    orders: OrdersOption = 1,
    streaming: StreamingOption = False,
    workers: WorkersOption = 1,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Who was made from whom: a parent for each model, or none, with the evidence and what its card declares.

    Read from a matrix, or from all pairs of the models that are named; only what the store does not have is computed.
    """
    if (matrix is None) == (not models):
        raise UsageError(
            "lineage of what?",
            "the models are either those of a matrix or named, not both and not neither",
            "infodist lineage MODEL MODEL…, or infodist lineage --matrix matrix.json",
        )
    from hf_infodist.declared import read_declared
    from hf_infodist.lineage import Lineage
    from hf_infodist.matrices import read_matrix
    from hf_infodist.pairwise import pairwise_distances

    if matrix is not None:
        known = read_matrix(matrix)
    else:
        with live() as on_status:
            known = pairwise_distances(
                read_names(models or []),
                images,
                k=k,
                seed=seed,
                protocol=protocol,
                orders=orders,
                workers=workers,
                on_status=on_status,
                setup=set_up_worker,
                config=config,
                split=split,
                column=column,
                streaming=streaming,
            )
    found = Lineage.of(known, read_declared([model.id for model in known.models]))
    show(found.to_dict(), str(found), as_json, output)


def ensemble(
    models: Annotated[list[str], typer.Argument(metavar="MODEL... | FILE", help=f"{MODEL}; or a file, a name a line")],
    pick: Annotated[int, typer.Option("--pick", help="how many to choose")] = 2,
    within: Annotated[
        float, typer.Option("--within", min=0, max=1, help="how much less accurate than the best a member may be")
    ] = 0.02,
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    orders: OrdersOption = 1,
    streaming: StreamingOption = False,
    workers: WorkersOption = 1,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Which models to average: of those that are accurate enough, the most different ones, and what that gains.

    Accuracy and gain are measured if the images have labels. Only distances that the store does not have are computed.
    """
    from hf_infodist.ensemble import choose_ensemble

    with live() as on_status:
        choice = choose_ensemble(
            read_names(models),
            pick,
            images,
            within=within,
            k=k,
            seed=seed,
            protocol=protocol,
            orders=orders,
            workers=workers,
            on_status=on_status,
            setup=set_up_worker,
            config=config,
            split=split,
            column=column,
            streaming=streaming,
        )
    show(choice.to_dict(), str(choice), as_json, output)
