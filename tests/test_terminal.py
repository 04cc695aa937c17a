"""In a terminal: tables that fit, short names, hints, questions before long runs, and what Ctrl-C says."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest
from test_cli import run

from hf_infodist.errors import NotFoundError, UsageError
from hf_infodist.results.names import find_name
from hf_infodist.table import Layout, laid_out, shared_folder, short_names, text_table

FOLDER = "/home/somebody/projects/vision/checkpoints/2026/"
ZOO = [FOLDER + name for name in ("full_s0", "full_s1", "half_a", "half_b", "wide", "deep", "noise")]
WORDS = ("compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", 16)


def matrix(names, width=None, tabs=False):
    rows = [[name, *(f"{number:.1f} ± 0.1" for number in range(len(names)))] for name in names]
    with laid_out(Layout(width, tabs)):
        return text_table(["", *map(str, range(len(names)))], rows, names=names, numbered=True)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_matrix_of_seven_local_models_fits_the_terminal(width):
    lines = matrix(ZOO, width).splitlines()
    assert max(map(len, lines)) <= max(width, len(lines[-1])) and lines[-1] == f"names are below {FOLDER}"
    assert sum(line.count(" ± ") for line in lines) == 49
    assert all(any(name.removeprefix(FOLDER) in line for line in lines) for name in ZOO)


def test_a_pipe_has_no_limit_and_an_agent_gets_whole_names_between_tabs():
    assert len(matrix(ZOO).splitlines()) == 9
    lines = matrix(ZOO, tabs=True).splitlines()
    assert len(lines) == 8 and all(line.count("\t") == 7 for line in lines) and lines[2].startswith(f"1 {ZOO[1]}\t")


def test_names_that_numbers_save_from_being_parted_are_told_below():
    names = ["organisation-a/a-model-with-a-long-name", "organisation-b/another-one-of-them"]
    with laid_out(Layout(60)):
        text = text_table(["", "bits"], [[f"{names[0]} given {names[1]}", "1.0"]], names=names)
    assert text.splitlines()[1].split() == ["0", "given", "1", "1.0"]
    assert text.splitlines()[-2:] == [f"0  {names[0]}", f"1  {names[1]}"]


def test_a_last_column_of_text_is_folded():
    with laid_out(Layout(60)):
        folded = text_table(["measure", "meaning"], [["linear CKA", "which images are alike " * 5]], left=(0, 1))
    assert max(map(len, folded.splitlines())) <= 60 and folded.count("linear CKA") == 1


@pytest.mark.parametrize(
    "names, short",
    [
        (["/a/b/x", "/a/b/y"], ["x", "y"]),
        (["/a/b/x", "/a/c/x"], ["b/x", "c/x"]),
        (["/a/bx", "/a/by"], ["bx", "by"]),
        (["./zoo/x", "demo:cnn"], ["x", "demo:cnn"]),
        (["/a/b/x", "random:/a/b/x"], ["x", "random:x"]),
        (["/a/b/x", "x"], ["/a/b/x", "x"]),
        (["timm/a", "timm/b"], ["timm/a", "timm/b"]),
        (["/a/x", "./a/y"], ["/a/x", "./a/y"]),
        ([], []),
    ],
)
def test_short_names_lack_what_all_paths_share_and_stay_apart(names, short):
    assert short_names(names) == short


def test_the_shared_folder_ends_with_a_slash():
    assert shared_folder(["/a/b/x", "/a/bc/y"]) == "/a/" and shared_folder(["demo:cnn"]) == ""


NAMES = ["/zoo/full_s1", "/zoo/half_s1", "org/full_s2", "demo:cnn", "random:demo:cnn"]


@pytest.mark.parametrize(
    "word, name",
    [
        ("full_s1", "/zoo/full_s1"),
        ("l_s1", "/zoo/full_s1"),
        ("demo:cnn", "demo:cnn"),
        ("https://huggingface.co/org/full_s2", "org/full_s2"),
        ("hf-hub:org/full_s2/", "org/full_s2"),
    ],
)
def test_the_end_of_a_name_will_do(word, name):
    assert find_name(word, NAMES) == name


def test_an_end_of_several_names_is_refused_with_them_and_another_with_what_is_near():
    with pytest.raises(UsageError, match=r"end of 2 names\nthey are /zoo/full_s1, /zoo/half_s1\ntype /zoo/full_s1"):
        find_name("s1", NAMES)
    with pytest.raises(NotFoundError, match=r"(?s)'full_s3'.*type org/full_s2 instead"):
        find_name("full_s3", NAMES[2:])


def in_terminal(width, *words):
    """Run the command line before somebody; return what the screen shows in the end, and the exit code."""
    pid, screen = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "hf_infodist.cli", *map(str, words)])
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    shown = b""
    try:
        while part := os.read(screen, 65536):
            shown += part
    except OSError:  # it has ended
        pass
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r\n", "\n").split("\n")
    return [line.split("\r")[-1] for line in lines], code


def test_before_somebody_lines_fit_and_a_hint_follows(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run(capsys, *WORDS)[0] == 0  # from here on it is in the store
    for width in (80, 120):
        lines, code = in_terminal(width, *WORDS)
        assert code == 0 and max(map(len, lines)) <= width
        assert any(line.startswith("Hint: ") for line in lines)
        assert not any("image/s" in line or "loading" in line for line in lines)
    assert not any("Hint" in line for line in in_terminal(80, *WORDS, "--json")[0])


def test_a_long_run_is_asked_about_after_a_cheaper_one_is_named(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("hf_infodist.cli.comparing._ASKED_SECONDS", 0)
    monkeypatch.setattr("hf_infodist.cli.comparing.agrees", lambda question: asked.append(question))
    words = (*WORDS[:-1], 40, "-p", "thorough")
    code, out, err = run(capsys, *words)
    assert code == 1 and not out and len(asked) == 1 and err.endswith("nothing was computed\n")
    assert "infodist compare demo:cnn demo:vit -i digits -k 40 -p standard" in err
    assert run(capsys, *words, "--yes")[0] == 0 and len(asked) == 1


def test_nobody_is_asked_in_a_pipe(capsys, monkeypatch):
    monkeypatch.setattr("hf_infodist.cli.comparing._ASKED_SECONDS", 0)
    code, _, err = run(capsys, *WORDS)
    assert code == 0 and "infodist compare demo:cnn demo:vit -i digits -k 4" in err


def test_ctrl_c_says_what_is_kept_and_how_to_go_on(capsys, monkeypatch, store):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_infodist.distances.code.code_pair", interrupt)
    code, out, err = run(capsys, *WORDS)
    assert code == 130 and not out and f"kept in {store}" in err and "type the same command again" in err


def test_a_matrix_stops_at_its_time_limit_and_goes_on_from_there(capsys, monkeypatch):
    names = ("demo:cnn", "demo:vit", "random:demo:cnn")
    monkeypatch.setattr("hf_infodist.distances.pairwise._STATUS_SECONDS", 0)
    words = ("matrix", *names, "-i", "digits", "-k", 64)
    code, _, err = run(capsys, *words, "--time-limit", 1e-9)
    assert code == 5 and "error: stopped after" in err and "--time-limit" in err
    code, out, _ = run(capsys, *words)
    assert code == 0 and "failed" not in out
