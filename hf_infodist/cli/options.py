"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

MODEL = "org/name[@revision], timm:NAME, torchvision:NAME[@WEIGHTS], a folder, random:NAME, demo:cnn or demo:vit"

ModelA = Annotated[str, typer.Argument(metavar="A", help=MODEL)]
ModelB = Annotated[str, typer.Argument(metavar="B", help="as A; any architecture, any label space")]
ImagesOption = Annotated[
    str, typer.Option("--images", "-i", help="dataset id, folder, parquet file, or 'digits'", show_default=True)
]
ConfigOption = Annotated[str | None, typer.Option("--config", help="configuration of the dataset")]
SplitOption = Annotated[str | None, typer.Option("--split", help="split of the dataset")]
ColumnOption = Annotated[str | None, typer.Option("--column", help="image column of the dataset")]
KOption = Annotated[int | None, typer.Option("-k", help="number of images [default: all, at most 2000]")]
SeedOption = Annotated[int, typer.Option("--seed", help="order of the images, and every draw of the protocol")]
ProtocolOption = Annotated[
    str, typer.Option("--protocol", "-p", help="standard, thorough, single, paper, blockwise or sampled")
]
StreamingOption = Annotated[bool, typer.Option("--streaming", help="read the dataset as a stream")]
OrdersOption = Annotated[int, typer.Option("--orders", help="code the images in so many orders, and take the mean")]
ProcessesOption = Annotated[int, typer.Option("--processes", help="number of processes of this machine to use")]
DataParallelOption = Annotated[
    bool, typer.Option("--data-parallel", help="let the processes share each batch instead of having a learner each")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="compute again what the store has already")]
LimitOption = Annotated[float | None, typer.Option("--time-limit", help="give up (exit code 5) after so many minutes")]
JsonOption = Annotated[bool, typer.Option("--json", help="print exactly one JSON object on standard output")]
WorkersOption = Annotated[int, typer.Option("--workers", help="number of processes of this machine to use")]
MatrixOption = Annotated[Path | None, typer.Option("--matrix", help="what infodist matrix -o has written")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="also write the JSON to this file")]

DEFAULT_IMAGES = "zh-plus/tiny-imagenet"
