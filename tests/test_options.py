"""One table of options for all commands, whose help shows examples that can be typed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import typer
from test_cli import run
from test_imports import loaded

import hf_infodist.cli
from hf_infodist.cli import app
from hf_infodist.cli.formats import chosen_format
from hf_infodist.errors import UsageError

TABLE = Path(hf_infodist.cli.__file__).parent / "README.md"
EVERYWHERE = {"--help"}


def leaves(command, name=""):
    """Yield every command that does something, by what is typed."""
    for word, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, f"{name} {word}".strip())
    if not hasattr(command, "commands"):
        yield name, command


COMMANDS = dict(leaves(typer.main.get_command(app)))


def options(command):
    """What can be typed of each option, as in the table: the short form first."""
    named = (param for param in command.params if param.param_type_name == "option")
    return {", ".join(sorted(param.opts, key=len)) for param in named} - EVERYWHERE


def table():
    """The table of options as it is, in Markdown."""
    have = {name: options(command) for name, command in COMMANDS.items()}
    order = list(dict.fromkeys(option for command in COMMANDS.values() for option in sorted(options(command))))
    common = sorted(order, key=lambda option: -sum(option in one for one in have.values()))
    lines = [f"| option | {' | '.join(have)} |", f"|---|{':-:|' * len(have)}"]
    lines += [
        f"| `{option}` | {' | '.join('x' if option in one else '' for one in have.values())} |" for option in common
    ]
    return "\n".join(re.sub(r" +\|", " |", line) for line in lines)


def test_the_table_of_options_is_that_of_the_commands():
    written = "\n".join(line for line in TABLE.read_text().splitlines() if line.startswith("|"))
    assert written == table(), f"the table in {TABLE} should be\n{table()}"


def test_an_option_has_the_same_forms_wherever_it_is():
    forms = {}
    for option in {option for command in COMMANDS.values() for option in options(command)}:
        for word in option.split(", "):
            forms.setdefault(word, set()).add(option)
    assert not {word: found for word, found in forms.items() if len(found) > 1}
    assert "--processes" not in forms and forms["-o"] == {"-o, --output"}


@pytest.mark.parametrize("option", ["--format", "--json", "--quiet", "--output"])
def test_every_command_that_finds_something_has_it(option):
    without = {name for name, command in COMMANDS.items() if not any(option in words for words in options(command))}
    assert without == {"show", "study"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_is_of_whole_sentences_and_its_example_can_be_typed(name):
    command = COMMANDS[name]
    first = command.help.splitlines()[0]
    assert first.endswith(".") and len(first) <= 64
    assert all(not param.help or param.help.endswith((".", "]")) for param in command.params)
    example = command.help[command.help.index("Example: ") :].removeprefix("Example: ").strip()
    words = shlex.split(" ".join(example.split()))
    assert words[: 1 + len(name.split())] == ["infodist", *name.split()] and len(example) <= 69
    command.make_context(name, words[1 + len(name.split()) :])  # fails if it cannot be parsed


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("width", [80, 120])
def test_help_fits_the_terminal(name, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run(capsys, *name.split(), "--help")
    assert code == 0 and max(map(len, out.splitlines())) <= width


def test_the_version_is_told(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0 and out == f"infodist {hf_infodist.__version__}\n"


# Formats


WORDS = ("compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", 16)


def test_each_format_says_the_same_number(capsys):
    told = {form: run(capsys, *WORDS, "--format", form) for form in ("human", "agent", "json", "quiet")}
    assert all(code == 0 for code, _, _ in told.values())
    per_image = json.loads(told["json"][1])["distance"]["bits"] / 16
    assert float(told["quiet"][1]) == pytest.approx(per_image, rel=1e-5) and told["quiet"][2] == ""
    assert "\t" in told["agent"][1] and "\t" not in told["human"][1]
    assert run(capsys, *WORDS, "--json")[1] == told["json"][1] and run(capsys, *WORDS, "-q")[1] == told["quiet"][1]
    nats = float(run(capsys, *WORDS, "-q", "--unit", "nats")[1])
    assert nats == pytest.approx(json.loads(told["json"][1])["distance"]["nats_per_image"], rel=1e-5)


def test_a_matrix_and_neighbours_have_short_forms(capsys, tmp_path):
    names = ("demo:cnn", "demo:vit", "random:demo:cnn")
    words = ("matrix", *names, "-i", "digits", "-k", 16, "-o", tmp_path / "m.json")
    _, out, _ = run(capsys, *words, "-q")
    numbers = [[float(cell) for cell in row.split("\t")] for row in out.splitlines()]
    matrix = json.loads((tmp_path / "m.json").read_text())
    assert numbers[1][0] == pytest.approx(matrix["nats"][1][0] / 16 / 0.693147, rel=1e-4)
    _, out, _ = run(capsys, "nearest", "vit", "--matrix", tmp_path / "m.json", "-q")
    assert sorted(out.split()) == ["demo:cnn", "random:demo:cnn"]


def test_two_formats_at_once_are_refused(capsys):
    code, _, err = run(capsys, *WORDS, "--json", "-q")
    assert code == 2 and "--json and --quiet" in err and len(err.splitlines()) == 3
    assert run(capsys, *WORDS, "--format", "xml")[0] == 2
    with pytest.raises(UsageError):
        chosen_format("human", False, True)


def test_an_agent_is_told_by_its_variables_as_hf_does(monkeypatch, tmp_path):
    kept = tmp_path / "harnesses.json"
    kept.write_text(json.dumps({"harnesses": {"some": {"envVars": {"SOME_HARNESS": "1"}}}}))
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(kept), raising=False)
    for name in ("AI_AGENT", "AGENT", "SOME_HARNESS"):
        monkeypatch.delenv(name, raising=False)
    assert chosen_format("auto", False, False) == "human"
    monkeypatch.setenv("SOME_HARNESS", "1")
    assert chosen_format("auto", False, False) == "agent" and chosen_format("auto", True, False) == "json"
    monkeypatch.setenv("SOME_HARNESS", "2")
    assert chosen_format("auto", False, False) == "human"
    monkeypatch.setenv("AI_AGENT", "any")
    assert chosen_format("auto", False, False) == "agent" and chosen_format("human", False, False) == "human"


def test_every_written_file_is_named(capsys, tmp_path):
    _, _, err = run(capsys, *WORDS, "-o", tmp_path / "r.json", "--plot", tmp_path / "curves")
    assert all(str(tmp_path / name) in err for name in ("r.json", "curves.png", "curves.svg"))
    names = ("demo:cnn", "demo:vit", "random:demo:cnn")
    run(capsys, "matrix", *names, "-i", "digits", "-k", 16, "-o", tmp_path / "m.json")
    _, _, err = run(capsys, "map", tmp_path / "m.json", "--into", tmp_path / "map", "-o", tmp_path / "g.json")
    written = [*(tmp_path / "map").iterdir(), tmp_path / "g.json"]
    assert len(written) > 5 and all(f"wrote {path}" in err for path in written)


# Completion


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_commands_and_options(tmp_path):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = subprocess.run(
        [sys.executable, "-m", "hf_infodist.cli", "--show-completion", "bash"],
        env=environment | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (tmp_path / "complete.sh").write_text(script)
    program = (
        f"source {tmp_path}/complete.sh\n"
        'set -- $(complete -p infodist); while [ "$1" != -F ]; do shift; done\n'
        'COMP_WORDS=(infodist "$WORD"); COMP_CWORD=1; "$2" infodist "$WORD" infodist; echo "${COMPREPLY[@]}"\n'
    )
    for word, found in {"comp": "compare complexity", "ne": "nearest"}.items():
        done = subprocess.run(
            ["bash", "-c", program], env=environment | {"WORD": word}, capture_output=True, text=True
        )
        assert done.stdout.split() == found.split(), done.stderr


def test_completing_loads_nothing_heavy(monkeypatch):
    monkeypatch.setenv("_INFODIST_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "infodist compare --pro")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert not {"torch", "timm", "datasets"} & loaded(
        "from hf_infodist.cli import main\ntry: main([])\nexcept SystemExit: pass"
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_written_where_the_file_is_called_so(tmp_path, capsys, suffix):
    file, read = tmp_path / f"x.{suffix}", pandas.read_csv if suffix == "csv" else pandas.read_parquet
    for words in (
        ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", 32],
        ["nearest", "demo:cnn", "demo:vit", "-i", "digits", "-k", 32],
        ["results", "ls"],
    ):
        code, _, err = run(capsys, *words, "-o", file)
        assert code == 0 and f"wrote {file}" in err and len(read(file)) > 0
    assert set(read(file)["teacher"]) == {"demo:cnn", "demo:vit"}
    code, _, err = run(capsys, "estimate", "demo:cnn", "demo:vit", "-o", tmp_path / f"y.{suffix}")
    assert code == 2 and f"use -o {tmp_path / 'y.json'}" in err and not (tmp_path / f"y.{suffix}").exists()
