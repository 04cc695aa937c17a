"""All studies in one command: each once, in an order that shares networks, and told at the end which have failed."""

import json
import shlex
import sys
from itertools import pairwise

import pytest

from hf_infodist import studies
from hf_infodist.cli import main
from hf_infodist.protocol import CodingProtocol
from hf_infodist.studies import all as _all
from hf_infodist.studies.all import NAMES, STEPS, Failure, Step, run_all

STUB = """
import sys
from pathlib import Path

name, *words = sys.argv[1:]
shelf, output = Path(words[words.index("--work") + 1]), Path(words[words.index("--output") + 1])
shelf.mkdir(parents=True, exist_ok=True)
with (shelf / "runs.txt").open("a") as runs:
    print(name, file=runs)
print("figures of", name)
if "--broken" in words and not (shelf / "mended").exists():
    sys.exit("no pictures\\nthe package is missing\\ninstall it")
(output / "figures.json").write_text("[]")
"""
PAIR = (
    Step("first", "--broken --work {work}/shared --output {output}"),
    Step("second", "--work {work}/shared --output {output}", repeated=True),
)


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "stub.py"
    file.write_text(STUB)
    return [sys.executable, str(file)]


def runs(tmp_path):
    return (tmp_path / "work" / "shared" / "runs.txt").read_text().split()


def run(tmp_path, program, steps=PAIR, seeds=None):
    work, data, output = (tmp_path / name for name in ("work", "data", "out"))
    return run_all([step.command(work, data, output, seeds) for step in steps], output, program)


def main_ends(words, code):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert (stop.value.code or 0) == code


def test_every_study_is_one_step():
    assert len(set(NAMES)) == len(NAMES) and {*NAMES, "all"} == set(studies.summaries())


@pytest.mark.slow
def test_every_command_is_one_that_its_study_takes(capsys, tmp_path):
    for step in STEPS:
        words = step.command(tmp_path / "work", tmp_path / "data", tmp_path / "out", 10)
        main_ends(["study", *words, "--help"], 0)
        shown = capsys.readouterr().out
        assert all(word in shown for word in words if word.startswith("-")), step.study


def test_studies_of_one_folder_of_networks_follow_one_another():
    options = [step.words.partition("--work {work}/")[2] for step in STEPS if "--work" in step.words]
    shelves = [words.split()[0].partition("/")[0] for words in options]
    changes = sum(a != b for a, b in pairwise(shelves))
    assert changes == len(set(shelves)) - 1 < len(shelves) - 4  # else each would train its own


def test_one_that_fails_stops_no_other_and_is_told_with_its_reason(tmp_path, program, capsys):
    (failure,) = run(tmp_path, program)
    assert failure.study == "first" and failure.why == "no pictures; the package is missing; install it"
    words = PAIR[0].command(tmp_path / "work", tmp_path / "data", tmp_path / "out")
    assert failure.command == f"infodist study {shlex.join(words)}"
    assert runs(tmp_path) == ["first", "second"]
    assert (tmp_path / "out" / "second" / "printed.txt").read_text() == "figures of second\n"
    assert (tmp_path / "out" / "second" / "figures.json").exists()
    assert "first failed: no pictures" in capsys.readouterr().err


def test_only_what_has_not_finished_is_run_again(tmp_path, program, capsys):
    run(tmp_path, program)
    (tmp_path / "work" / "shared" / "mended").touch()
    assert not run(tmp_path, program)
    assert not run(tmp_path, program)
    assert runs(tmp_path) == ["first", "second", "first"]
    assert "second has finished before" in capsys.readouterr().err


def test_how_long_each_took_and_how_long_cores_worked_for_it_is_kept(tmp_path):
    busy = "import time\nwhile time.process_time() < 0.35: pass\ntime.sleep(0.5)"  # ticks of a hundredth are counted
    run(tmp_path, [sys.executable, "-c", busy], PAIR[1:])
    done = json.loads((tmp_path / "out" / "second" / "done.json").read_text())
    assert 0.3 <= done["core_seconds"] <= done["seconds"] - 0.4  # sleeping is no work


def test_other_options_and_another_version_of_the_number_are_measured_anew(tmp_path, program, monkeypatch):
    steps = PAIR[1:]
    run(tmp_path, program, steps)
    run(tmp_path, program, steps, seeds=10)
    run(tmp_path, program, steps)
    assert runs(tmp_path) == ["second"] * 3
    monkeypatch.setattr(CodingProtocol, "coding", property(lambda protocol: 99))
    run(tmp_path, program, steps)
    assert runs(tmp_path) == ["second"] * 4


def test_one_that_the_system_ends_has_failed(tmp_path):
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    (failure,) = run(tmp_path, killed, PAIR[:1])
    assert failure.why == "ended by signal 9" and not (tmp_path / "out" / "first" / "done.json").exists()


def test_the_command_tells_last_what_failed_and_how_to_go_on(tmp_path, monkeypatch, capsys):
    failures = [Failure("anchors", "no data; not there; build it", "infodist study anchors --data there")]
    monkeypatch.setattr(_all, "run_all", lambda commands, output: failures[: len(commands) - 1])
    words = ["study", "all", "--work", str(tmp_path), "--study", "anchors"]
    main_ends(words, 0)
    assert "all 1 studies have finished" in capsys.readouterr().out
    main_ends([*words, "--study", "cost"], 1)
    told = capsys.readouterr()
    assert "no data; not there; build it" in told.out and "infodist study anchors --data there" in told.out
    assert told.err.startswith("error: 1 of 2 studies failed: anchors") and len(told.err.splitlines()) == 3
