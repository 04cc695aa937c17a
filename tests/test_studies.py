"""Studies are found by their files, and the command runs them as the module does."""

import subprocess
import sys
from pathlib import Path

import pytest

from hf_infodist import studies
from hf_infodist.cli import main
from hf_infodist.errors import NotFoundError, UsageError

FOLDER = Path(studies.__file__).parent


def test_every_study_is_listed_with_one_line(capsys):
    names = {file.stem for file in FOLDER.glob("[a-z]*.py")}
    for words in ([], ["--list"]):
        with pytest.raises(SystemExit) as stop:
            main(["study", *words])
        assert not stop.value.code
        lines = capsys.readouterr().out.splitlines()
        assert {line.split()[0] for line in lines} == names >= {"throughput", "search", "tightness"}
        assert all(len(line.split()) > 5 and len(line) < 120 for line in lines)


def test_listing_imports_no_study():
    code = (
        "import sys, hf_infodist.cli as cli\n"
        "try: cli.main(['study'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'optuna', 'preqtorch', 'numpy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_an_unknown_study_is_refused_with_the_nearest_name(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["study", "tigtness", "--work", "here"])
    error = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(error) == 3
    assert "'tigtness'" in error[0] and "infodist study tightness" in error[2]


def test_a_name_like_no_other_leads_to_the_list():
    with pytest.raises(UsageError, match="infodist study --list"):
        studies.run_study("xyz", [])


@pytest.mark.parametrize("name", ["_pairs", "__init__", "../cli"])
def test_what_is_no_study_is_not_run(name):
    with pytest.raises(UsageError, match="unknown study"):
        studies.run_study(name, [])


@pytest.mark.parametrize("name", sorted(studies.summaries()))
def test_options_after_the_name_are_those_of_the_study(capsys, name):
    with pytest.raises(SystemExit) as stop:
        main(["study", name, "--help"])
    assert not stop.value.code and capsys.readouterr().out.startswith(f"Usage: infodist study {name}")
    with pytest.raises(SystemExit) as stop:
        main(["study", name, "--nonsense"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"infodist study {name} --help" in error and "--nonsense" in error


def test_the_module_and_the_command_are_the_same_thing(capsys):
    words = ["demo:cn", "--images", "32"]
    with pytest.raises(SystemExit) as stop:
        main(["study", "throughput", *words])
    module = [sys.executable, "-m", "hf_infodist.cli", "study", "throughput", *words]
    done = subprocess.run(module, capture_output=True, text=True, check=False)
    assert done.returncode == stop.value.code == 3 and "demo:cnn" in done.stderr
    assert done.stderr == capsys.readouterr().err


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in ("search", "tightness"):
        words = {"search": ["demo:cnn", "demo:vit"], "tightness": ["--work", "nowhere"]}[name]
        with pytest.raises(NotFoundError, match=r"optuna[^\n]*\n[^\n]*\n[^\n]*pip install optuna") as error:
            studies.run_study(name, words)
        assert len(str(error.value).splitlines()) == 3
    assert not Path("nowhere").exists()
