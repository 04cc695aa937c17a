"""The command line: parse, call, show. The only module that prints."""

import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_infodist.errors import InfodistError, ResourceError

if TYPE_CHECKING:
    from hf_infodist.distance import Pair
    from hf_infodist.estimate import Estimate
    from hf_infodist.protocol import CodingProtocol
    from hf_infodist.result import InformationDistance

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="How much information turns one image classifier into another?\n\n"
    "Exit codes: 0 done; 2 usage; 3 not found or offline; 4 inputs that do not fit; 5 out of memory or time. "
    "Add --debug to any command to see a traceback.",
)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h

MODEL = "org/name[@revision], timm:NAME, torchvision:NAME[@WEIGHTS], a folder, random:NAME, demo:cnn or demo:vit"

ModelA = Annotated[str, typer.Argument(metavar="A", help=MODEL)]
ModelB = Annotated[str, typer.Argument(metavar="B", help="as A; any architecture, any label space")]
ImagesOption = Annotated[
    str, typer.Option("--images", "-i", help="dataset id, folder, parquet file, or 'digits'", show_default=True)
]
ConfigOption = Annotated[str | None, typer.Option("--config", help="configuration of the dataset")]
SplitOption = Annotated[str | None, typer.Option("--split", help="split of the dataset")]
ColumnOption = Annotated[str | None, typer.Option("--column", help="image column of the dataset")]
KOption = Annotated[int | None, typer.Option("-k", help="number of images [default: all, at most 10000]")]
SeedOption = Annotated[int, typer.Option("--seed", help="order of the images, and every draw of the protocol")]
ProtocolOption = Annotated[
    str, typer.Option("--protocol", "-p", help="standard, quick, probe, single, paper, blockwise or sampled")
]
StreamingOption = Annotated[bool, typer.Option("--streaming", help="read the dataset as a stream")]
LimitOption = Annotated[float | None, typer.Option("--time-limit", help="give up (exit code 5) after so many minutes")]
JsonOption = Annotated[bool, typer.Option("--json", help="print exactly one JSON object on standard output")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="also write the JSON to this file")]

DEFAULT_IMAGES = "zh-plus/tiny-imagenet"


@app.command()
def compare(
    a: ModelA,
    b: ModelB,
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    streaming: StreamingOption = False,
    time_limit: LimitOption = None,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Information distance between two models on the images of a dataset."""
    source = {"config": config, "split": split, "column": column, "streaming": streaming}
    result = _compare(a, b, images, source, k=k, seed=seed, protocol=protocol, time_limit=time_limit)
    _show(result.to_dict(), str(result), as_json, output)


@app.command()
def demo(as_json: JsonOption = False, output: OutputOption = None) -> None:
    """Compare the two embedded checkpoints on handwritten digits; works offline, takes under a minute."""
    result = _compare("demo:cnn", "demo:vit", "digits", {}, k=1000, seed=0, protocol="quick", time_limit=None)
    _show(result.to_dict(), f"{result}\n\n{result.explain()}", as_json, output)


@app.command()
def estimate(
    a: ModelA,
    b: ModelB,
    k: KOption = None,
    protocol: ProtocolOption = "standard",
    as_json: JsonOption = False,
) -> None:
    """Operations and expected seconds of a comparison; downloads no weights."""
    from hf_infodist.estimate import estimate_cost
    from hf_infodist.images import DEFAULT_K, check_sample
    from hf_infodist.models import load_classifier
    from hf_infodist.protocol import resolve_protocol
    from hf_infodist.training import make_accelerator

    settings = resolve_protocol(protocol)
    check_sample(k, seed=0)
    random = [load_classifier(name if name.startswith("random:") else f"random:{name}") for name in (a, b)]
    cost = estimate_cost(random, k or DEFAULT_K, settings, make_accelerator().device)
    _show(cost.to_dict(), _cost_table(cost), as_json)


@app.command()
def card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL)],
    among: Annotated[list[str], typer.Option("--among", "-a", help="a checkpoint to compare with; give one or more")],
    images: ImagesOption = DEFAULT_IMAGES,
    config: ConfigOption = None,
    split: SplitOption = None,
    column: ColumnOption = None,
    k: KOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = "standard",
    into: Annotated[Path | None, typer.Option("--into", help="write README.md and infodist.yaml there")] = None,
    pull_request: Annotated[bool, typer.Option("--pull-request", help="propose both to the model's owners")] = False,
    as_json: JsonOption = False,
) -> None:
    """Nearest checkpoints of a model, as a section for its card: only shown, unless asked to put it there."""
    from hf_infodist import card as cards

    cards.check_comparisons(model, among)
    repo = cards.check_pull_request(model, among, images) if pull_request else ""
    source = {"config": config, "split": split, "column": column}
    settings: dict[str, Any] = {"k": k, "seed": seed, "protocol": protocol, "time_limit": None}
    nearest = cards.NearestCheckpoints.of(_compare(model, other, images, source, **settings) for other in among)
    if into:
        cards.write_section(nearest, into)
    if pull_request:
        _say(f"opened {cards.open_pull_request(repo, nearest)}")
    text = f"==> {cards.CARD} <==\n{nearest.to_markdown()}\n\n==> {cards.DATA} <==\n{nearest.to_yaml()}"
    _show(nearest.to_dict(), text, as_json)


@app.command()
def env(as_json: JsonOption = False) -> None:
    """Versions, device and folders: what to paste into a bug report."""
    import platform

    import torch

    from hf_infodist.outputs import infodist_home
    from hf_infodist.result import package_versions

    versions = package_versions()
    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "store": str(infodist_home()),
        "offline": os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"),
    }
    lines = [f"{name:<16}{value}" for name, value in (versions | facts).items()]
    _show({"versions": versions} | facts, "\n".join(lines), as_json)


def _compare(
    a: str,
    b: str,
    images: str,
    source: dict[str, Any],
    *,
    k: int | None,
    seed: int,
    protocol: str,
    time_limit: float | None,
) -> "InformationDistance":
    from hf_infodist.protocol import resolve_protocol

    settings = resolve_protocol(protocol, seed)
    _say(f"loading {a}, {b} and {images}")
    from hf_infodist.distance import distance_of_pair, prepare_pair
    from hf_infodist.training import make_accelerator

    accelerator = make_accelerator()
    pair = prepare_pair(a, b, images, k=k, seed=seed, accelerator=accelerator, progress=_interactive(), **source)
    _announce_cost(pair, settings, accelerator.device, time_limit)
    with _Progress(len(pair.images), time_limit) as progress:
        return distance_of_pair(pair, settings, accelerator=accelerator, on_block=progress)


def _announce_cost(pair: "Pair", protocol: "CodingProtocol", device: Any, time_limit: float | None) -> None:
    from hf_infodist.estimate import estimate_cost

    cost = estimate_cost((pair.a, pair.b), len(pair.images), protocol, device)
    _say(f"{cost.gradient_images:,} gradient images on {cost.device}, about {_duration(cost.seconds)}")
    if time_limit and cost.seconds > 60 * time_limit:
        raise ResourceError(
            f"this comparison takes about {_duration(cost.seconds)} on {cost.device}",
            f"the limit is {_duration(60 * time_limit)}",
            "raise --time-limit, lower -k, or use --protocol probe",
        )


class _Progress:
    """A bar on standard error: images priced, nats so far, time left."""

    def __init__(self, k: int, time_limit: float | None):
        from tqdm import tqdm

        self.bar = tqdm(total=2 * k, unit="image", disable=not _interactive(), file=sys.stderr)
        self.k, self.limit, self.started = k, time_limit, time.monotonic()
        self.done = {"a_given_b": 0, "b_given_a": 0}

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def __call__(self, direction: str, images: int, nats: float) -> None:
        """Show where a direction stands, and stop when the time is up."""
        self.done[direction] = images
        self.bar.set_description(direction.replace("_", " "), refresh=False)
        self.bar.set_postfix_str(f"{nats:.1f} nats", refresh=False)
        self.bar.update(sum(self.done.values()) - self.bar.n)
        if self.limit and time.monotonic() - self.started > 60 * self.limit:
            raise ResourceError(
                f"stopped after {sum(self.done.values())} of {2 * self.k} images ({nats:.1f} nats in {direction})",
                f"the time limit of {_duration(60 * self.limit)} is over",
                "raise --time-limit, lower -k, or use --protocol probe",
            )


def _interactive() -> bool:
    return sys.stderr.isatty()


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _show(fields: dict[str, Any], text: str, as_json: bool, output: Path | None = None) -> None:
    if output:
        output.write_text(json.dumps(fields, indent=2) + "\n")
    print(json.dumps(fields) if as_json else text)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cost_table(cost: "Estimate") -> str:
    rows = [
        f"{m.id}: {m.parameters / 1e6:.1f} M weights, {m.forward_flops / 1e9:.3g} GFLOP forward, "
        f"{m.training_flops / 1e9:.3g} GFLOP forward and backward"
        for m in cost.models
    ]
    total = (
        f"{cost.k:,} images, {cost.gradient_images:,} gradient images, {cost.flops / 1e12:.3g} TFLOP: "
        f"about {_duration(cost.seconds)} on {cost.device}"
    )
    return "\n".join([*rows, total])


def main(argv: list[str] | None = None) -> None:
    """Run the command line; turn errors into three lines and an exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    _set_environment()
    _keep_freed_memory()
    run: Callable[..., Any] = typer.main.get_command(app)
    try:
        run([word for word in words if word != "--debug"], prog_name="infodist")
    except InfodistError as error:
        if debug:
            raise
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        _say(f"error: {type(error).__name__}: {error}".splitlines()[0])
        _say("this is a case that infodist does not know yet")
        _say("run the same command with --debug, and report what it prints with the output of 'infodist env'")
        sys.exit(1)


def _set_environment() -> None:
    """Set what libraries read when they are first imported; what the user has set stays."""
    for name, value in {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # ours say what matters
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait slow small networks down by tens
    }.items():
        os.environ.setdefault(name, value)


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory of large tensors instead of returning it to the kernel after each layer.

    Fresh pages are dear: on two cores EfficientNet-Lite0 at 224 pixels runs 2 to 3 times as fast with this.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


if __name__ == "__main__":
    main()
