"""Every study at its small scale, one after another; what has finished is not run again.

``infodist study all --work FOLDER [--study NAME …] [--seeds N] [--data FOLDER] [--output FOLDER]``

Studies of the same networks follow one another and share a folder of them. Each runs in a process of its own, so that
one that fails, or that the system ends, stops no other. What it printed and what it logged lie beside its figures.
When the same command is typed again, finished studies are passed over; the others go on from what they have kept.
At the end it tells how long each took.
"""

import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from hf_infodist.errors import InfodistError
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.networks.pairs import default_data
from hf_infodist.studies.report.options import Data, Folder, Work, one_of
from hf_infodist.table import text_table

_MODULE = (sys.executable, "-m", "hf_infodist.cli", "study")


@dataclass(frozen=True)
class Step:
    """One study, as it is run.

    Attributes:
        study: Its name.
        words: Options of its own; ``{work}``, ``{data}`` and ``{output}`` are folders.
        repeated: Whether everything is trained and measured with as many ``--seeds`` as asked.
    """

    study: str
    words: str = ""
    repeated: bool = False

    def command(self, work: Path, data: Path, output: Path, seeds: int | None = None) -> list[str]:
        """Return what is typed after ``infodist study``."""
        folders = {"work": work, "data": data, "output": output / self.study}
        more = ["--seeds", str(seeds)] if seeds and self.repeated else []
        return [self.study, *(word.format(**folders) for word in self.words.split()), *more]


_NETWORKS = "--output {output} --work {work}/"
_CHECKPOINTS = "--data {data} --output {output}"
STEPS = (
    Step("invariance", _NETWORKS + "resnets", True),  # θ_A and θ_B of both tasks, which the next one interpolates
    Step("faithfulness", _NETWORKS + "resnets", True),
    Step("regularization", _NETWORKS + "trained", True),
    Step("generalization", _NETWORKS + "trained", True),
    Step("ensembles", _NETWORKS + "trained", True),
    Step("zoo_map", _NETWORKS + "placing/zoo", True),  # thirteen of the networks of the next one
    Step("placing", "--data {data} --work {work}/placing --output {output}/placing.json"),
    Step("paired_errors", _NETWORKS + "paired"),
    Step("datasets_map", _NETWORKS + "starts/networks"),  # where the next two look for networks of each data set
    Step(  # a third of what it does by itself
        "transfer", _NETWORKS + "starts --data {data} --labels 200 --seeds 1 --rate 2e-3 --rate 5e-3"
    ),
    Step("start_errors", _NETWORKS + "starts"),
    Step("questions", _NETWORKS + "questions --figures {output}/..", True),  # of zoo_map, datasets_map and transfer
    Step("lineage", _NETWORKS + "forests"),
    Step("resi", _NETWORKS + "resi"),
    Step("shipped", "--output {output}/digits --work {work}/shipped"),
    Step("packing", _CHECKPOINTS + "/packing.json"),
    Step("atlas", "--output {output}/atlas.json --work {work}/atlas -k 1000 --models 100"),
    Step("anchors", _CHECKPOINTS + "/anchors.json"),
    Step("error_bars", "demo:cnn demo:vit -i digits -k 400 --output {output}/error_bars.json"),
    Step("search", "demo:cnn demo:vit -k 500 --trials 6 --json"),
    Step(  # columns that train take hours
        "tightness", _CHECKPOINTS + "/tightness.json --work {work}/tightness --column static --column mixture"
    ),
    Step("frontier", _CHECKPOINTS + " --work {work}/frontier -k 1000"),
    Step("cost", _CHECKPOINTS + "/cost.json"),
    Step("throughput", "--images 16 --rounds 7"),
    Step("adaptation", "--data {data} --output {output}/adaptation.json"),
    Step("device", "--data {data} -k 500 --output {output}/device.json"),
    Step("scaling"),
    Step("visitors", "--output {output}/visitors.json"),
)
"""All studies: those that train alike together, those that only measure time last."""

_THOROUGH = ("frontier", "adaptation", "device")  # studies that code by that protocol too

NAMES = tuple(step.study for step in STEPS)


@dataclass(frozen=True)
class Done:
    """What a finished study leaves, which says that it need not run again.

    Attributes:
        command: What was typed.
        coding_version: Of its numbers.
        seconds: How long the last run took; less where some of it had been kept.
        core_seconds: Of all cores together that it kept at work, whatever else the machine did.
    """

    command: str
    coding_version: int
    seconds: float
    core_seconds: float = math.nan

    @classmethod
    def read(cls, folder: Path, command: str) -> "Done | None":
        """Return what a folder has of the same command and the same version of its numbers, if anything."""
        file = folder / "done.json"
        found = cls(**json.loads(file.read_text())) if file.exists() else None
        return found if found and (found.command, found.coding_version) == (command, _coding(folder.name)) else None

    def write(self, folder: Path) -> None:
        """Leave it in a folder, whole or not at all."""
        unfinished = folder / "done.json.tmp"
        unfinished.write_text(json.dumps(asdict(self)) + "\n")
        unfinished.rename(folder / "done.json")


@dataclass(frozen=True)
class Failure:
    """A study that did not finish: its name, why in one line, and what runs it alone."""

    study: str
    why: str
    command: str


def run_all(commands: Sequence[Sequence[str]], output: Path, program: Sequence[str] = _MODULE) -> list[Failure]:
    """Run studies in turn, each in its own process, but for those that have finished; return what failed.

    Args:
        commands: What is typed after ``infodist study`` for each: its name and its options.
        output: Each study has a folder in it, for ``done.json``, ``printed.txt``, ``log.txt`` and its figures.
        program: What the words of a study are arguments of.
    """
    failures = []
    for number, words in enumerate(commands, 1):
        study, folder, command = words[0], output / words[0], _command(words)
        if done := _done(output, words):
            _say(f"{number} of {len(commands)}: {study} has finished before, in {done.seconds:.0f} s")
            continue
        _say(f"{number} of {len(commands)}: {command}")
        started, used = time.perf_counter(), _core_seconds()
        if why := _run([*program, *words], folder):
            failures.append(Failure(study, why, command))
            _say(f"{study} failed: {why}")
        else:
            seconds = time.perf_counter() - started
            Done(command, _coding(study), seconds, _core_seconds() - used).write(folder)
    return failures


def _command(words: Sequence[str]) -> str:
    """Return what is typed."""
    return f"infodist study {shlex.join(words)}"


def _done(output: Path, words: Sequence[str]) -> Done | None:
    """Return what a study has left that has finished."""
    return Done.read(output / words[0], _command(words))


def _core_seconds() -> float:
    """Return how long cores have been at work for processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _coding(study: str) -> int:
    """Return the version of the coding that the numbers of a study are of: the newest of its protocols'."""
    return PROTOCOLS["thorough" if study in _THOROUGH else "standard"].coding


def _run(command: Sequence[str], folder: Path) -> str:
    """Run a command; return why it failed, nothing if it did not."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    with (folder / "printed.txt").open("wb") as out, log.open("wb") as said:
        code = subprocess.run(command, stdout=out, stderr=said, check=False).returncode
    if code < 0:
        return f"ended by signal {-code}"
    told = log.read_text(errors="replace").strip().splitlines()[-3:]  # errors are three lines: what, why, what to type
    return ("; ".join(told) or f"exit code {code}") if code else ""


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main(
    work: Work,
    data: Data = default_data(),
    studies: Annotated[list[str], one_of(NAMES, "--study", what="which, instead of all")] = list(NAMES),
    seeds: Annotated[int | None, typer.Option("--seeds", help="instead of the studies' own number")] = None,
    output: Folder = None,
) -> None:
    """Run what has not finished, and tell at the end what failed."""
    output = output or work / "figures"
    commands = [step.command(work, data, output, seeds) for step in STEPS if step.study in studies]
    failures = run_all(commands, output)
    done = [(words[0], one) for words in commands if (one := _done(output, words))]
    took = [(study, f"{one.seconds / 60:.1f}", f"{one.core_seconds / 60:.1f}") for study, one in done]
    if took:
        sys.stdout.write(text_table(("study", "minutes", "of a core"), took) + "\n")
    if failures:
        rows = [(one.study, one.why, one.command) for one in failures]
        sys.stdout.write(text_table(("failed", "why", "alone"), rows, left=(0, 1, 2)) + "\n")
        what = f"{len(failures)} of {len(commands)} studies failed: {', '.join(one.study for one in failures)}"
        why = "the others have finished, and are not run again"
        raise InfodistError(what, why, "mend what the table says, and type the same command again")
    sys.stdout.write(f"all {len(commands)} studies have finished; their figures are in {output}\n")
