"""What the machine refuses is said in three lines, before work where that can be known; nothing computed is lost."""

import errno
import json
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_infodist import information_distance
from hf_infodist.cli import main
from hf_infodist.cli.terminal import speak_plainly
from hf_infodist.errors import NoSpaceError, ResourceError, UnfitError, UsageError, refused_by_system
from hf_infodist.images.sample import load_images
from hf_infodist.models.names import DEMO
from hf_infodist.pair import Execution
from hf_infodist.results import claims

COMPARE = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", "40"]


def infodist(*words, largest=None, **environment):
    """Run the command in a process of its own, that may write files of so many bytes."""

    def limit():
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in environment.items()}}
    command = [sys.executable, "-m", "hf_infodist.cli", *map(str, words)]
    return subprocess.run(
        command,
        env=environment,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
    )


def told(done, code, *texts):
    """The command has ended with an exit code and three lines that hold some texts."""
    lines = done.stderr[done.stderr.index("error: ") :].splitlines()
    assert done.returncode == code and len(lines) == 3 and "Traceback" not in done.stderr, done.stderr
    assert all(text in "\n".join(lines) for text in texts), lines
    assert "does not know yet" not in done.stderr


# A full disk


def left_over(home):
    """What a run leaves that nobody would clean up: claims, notes of failures, half-written folders and files."""
    patterns = ("*.claim", "*.failed", ".new-*", ".*.clock", "codelengths/.*")
    return sorted({str(path.relative_to(home)) for pattern in patterns for path in home.rglob(pattern)})


MATRIX = ["matrix", "demo:cnn", "demo:vit", "random:demo:vit", *COMPARE[3:]]


@pytest.mark.slow
@pytest.mark.parametrize("largest", [20_000, 400_000, 1_000_000])
@pytest.mark.parametrize("words", [COMPARE, MATRIX])
def test_a_disk_that_is_full_ends_a_run_well_which_goes_on_when_there_is_room(words, largest, tmp_path):
    home = tmp_path / "home"
    words = [*words[:-1], "200", "--json"]
    done = infodist(*words, largest=largest, INFODIST_HOME=home)
    told(done, 5, "INFODIST_HOME")
    assert left_over(home) == []
    again, fresh = (infodist(*words, INFODIST_HOME=place) for place in (home, tmp_path / "fresh"))
    assert again.returncode == fresh.returncode == 0
    results = [json.loads(each.stdout) for each in (again, fresh)]
    if words[0] == "matrix":
        assert results[0]["nats"] == results[1]["nats"]
    else:
        assert results[0]["distance"]["nats"] == results[1]["distance"]["nats"]


@pytest.mark.slow
def test_a_small_file_system_that_fills_up(tmp_path):
    home = tmp_path / "small"
    home.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", home]).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("only root may mount a small file system")
    try:
        for words in (COMPARE[:-1], ["matrix", "--workers", "2", *COMPARE[1:-1]]):
            done = infodist(*words, "900", INFODIST_HOME=home)
            told(done, 5, "No space left on device")
            assert left_over(home) == []
        for path in (home / "outputs").iterdir():
            subprocess.run(["rm", "-r", path], check=True)
        assert infodist(*COMPARE, INFODIST_HOME=home).returncode == 0
    finally:
        subprocess.run(["umount", home], check=True)


def test_a_claim_on_a_full_disk_is_not_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(claims.json, "dump", full)
    with pytest.raises(NoSpaceError):
        claims.Claim(tmp_path / "work").take()
    assert not list(tmp_path.iterdir())


# Places that cannot be used


@pytest.mark.parametrize("below", ["", "/home"], ids=["a file", "below a file"])
def test_a_store_that_is_a_file_is_named(below, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    home = Path(f"{tmp_path}/file{below}")
    monkeypatch.setenv("INFODIST_HOME", str(home))
    with pytest.raises(SystemExit) as stop:
        main(COMPARE)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"{tmp_path}/file" in error and "Not a directory" in error
    with pytest.raises(UsageError, match=r"cannot be used\nNot a directory"):
        information_distance("demo:cnn", "demo:vit", "digits", k=16, execution=Execution(home=home))


@pytest.mark.slow
def test_a_hub_home_that_cannot_be_written_is_not_blamed_on_the_data(tmp_path):
    (tmp_path / "file").write_text("")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    table = datasets.Dataset.from_dict({"image": [str(tmp_path / "1.png")] * 4})
    table.cast_column("image", datasets.Image()).to_parquet(tmp_path / "a.parquet")
    words = [*COMPARE[:4], tmp_path / "a.parquet", "-k", "4"]
    done = infodist(*words, HF_HOME=tmp_path / "file" / "hf", INFODIST_HOME=tmp_path / "home")
    told(done, 2, str(tmp_path / "file"), "HF_HOME")
    assert "a.parquet" not in done.stderr.partition("error: ")[2]


@pytest.mark.slow
def test_a_store_that_may_only_be_read_answers_what_it_has(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", home]).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("only root may mount a file system that is read-only")
    try:
        first = infodist(*COMPARE, "--json", INFODIST_HOME=home)
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        again = infodist(*COMPARE, "--json", INFODIST_HOME=home)
        assert json.loads(again.stdout)["distance"] == json.loads(first.stdout)["distance"]
        assert infodist("results", "ls", "-q", INFODIST_HOME=home).stdout.count("\n") == 2
        told(infodist(*COMPARE[:-1], "41", INFODIST_HOME=home), 2, str(home), "Read-only file system", "INFODIST_HOME")
    finally:
        subprocess.run(["umount", home], check=True)


OUTPUTS = {
    "no folder": ([*COMPARE, "-o", "missing/out.json"], r"there is no folder missing\ntype mkdir -p missing"),
    "a folder": ([*COMPARE, "-o", "there"], r"there is a folder\n.*\nname a file, such as there/out.json"),
    "below a file": ([*COMPARE, "-o", "file/out.json"], r"there is no folder file"),
    "a picture": ([*COMPARE, "--plot", "missing/curves"], r"missing/curves.png cannot be written"),
    "a matrix": (["matrix", *COMPARE[1:], "-o", "missing/m.json"], r"missing/m.json cannot be written"),
    "baselines": (["baselines", *COMPARE[1:], "-o", "missing/b.json"], r"missing/b.json cannot be written"),
    "complexity": (["complexity", "demo:cnn", "-i", "digits", "-k", "40", "-o", "no/c.json"], r"no/c.json cannot be"),
    "a map": (["map", "m.json", "--into", "file"], r"file is a file\na folder is to be filled"),
    "a card": (["card", "demo:cnn", "-a", "demo:vit", "-i", "digits", "--into", "file"], r"file is a file"),
    "nearest": (["nearest", "demo:cnn", "demo:vit", "-i", "digits", "-o", "missing/n.json"], r"missing/n.json cannot"),
    "lineage": (["lineage", "demo:cnn", "demo:vit", "-i", "digits", "-o", "missing/n.json"], r"missing/n.json cannot"),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(case, tmp_path, monkeypatch, capsys):
    words, text = OUTPUTS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("hf_infodist.outputs.forward.compute_outputs", lambda *_, **__: pytest.fail("it has begun"))
    monkeypatch.setattr("hf_infodist.pair.compute_outputs", lambda *_, **__: pytest.fail("it has begun"))
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and re.search(text, error) and len(error[error.index("error: ") :].splitlines()) == 3


def test_a_result_is_shown_before_it_is_written(tmp_path, monkeypatch, capsys):
    write = Path.write_text

    def full(path, *values, **options):
        if path.name == "out.json":
            raise OSError(errno.ENOSPC, "full")
        return write(path, *values, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SystemExit) as stop:
        main([*COMPARE, "-o", str(tmp_path / "out.json")])
    shown = capsys.readouterr()
    assert stop.value.code == 5 and "Turning" in shown.out and "no room left" in shown.err


# Terminals


def test_what_a_terminal_lacks_is_written_with_what_it_has():
    speak_plainly()
    assert "± 3 → x … 日".encode("ascii", "plainly") == b"+- 3 -> x ... ?"
    assert "± → é".encode("cp1252", "plainly") == b"\xb1 -> \xe9"


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["ascii", "cp1252", "latin-1", "cp437", "utf-8"])
def test_every_terminal_is_shown_what_it_can_show(coding):
    for words, char, plain in ((COMPARE, "±", "+-"), (["baselines", *COMPARE[1:]], "↓", "v")):
        environment = {**os.environ, "PYTHONIOENCODING": coding}
        command = [sys.executable, "-m", "hf_infodist.cli", *words]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert not done.returncode, done.stderr.decode(coding)
        try:
            expected = char.encode(coding)
        except UnicodeEncodeError:
            expected = plain.encode()
        assert expected in done.stdout and b"?" not in done.stdout


# Anything else


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), NoSpaceError, 5),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), NoSpaceError, 5),
        (RuntimeError("PytorchStreamWriter failed: No space left on device"), NoSpaceError, 5),
        (OSError(errno.EMFILE, "Too many open files", "/a"), ResourceError, 5),
        (MemoryError(), ResourceError, 5),
        (MemoryError("Unable to allocate 9 TiB"), ResourceError, 5),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), UsageError, 2),
        (OSError(errno.EROFS, "Read-only file system", "/a/b"), UsageError, 2),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/b"), UsageError, 2),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/a/b"), UsageError, 2),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/b"), UsageError, 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), UsageError, 2),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_system_refuses_is_told_whatever_it_is_wrapped_in(error, kind, code, wrapped):
    if wrapped:
        outer = ValueError("somewhere in a library")
        outer.__cause__ = error
        error = outer
    found = refused_by_system(error)
    assert type(found) is kind and found.exit_code == code and len(str(found).splitlines()) == 3


@pytest.mark.parametrize(
    "error", [ValueError("no"), ConnectionResetError("reset"), TimeoutError("slow"), KeyError("k")]
)
def test_what_is_about_something_else_is_left_to_others(error):
    assert refused_by_system(error) is None


def test_a_picture_that_needs_more_memory_than_there_is_names_its_row(monkeypatch):
    def large(*_):
        raise MemoryError

    images = load_images([np.zeros((4, 4, 3), np.uint8)] * 2)
    monkeypatch.setattr(Image.Image, "load", large)
    with pytest.raises(ResourceError, match=r"row \d of list is too large for the memory"):
        list(images)


@pytest.mark.slow
def test_a_file_that_is_no_folder_of_a_model_is_told(tmp_path):
    told(infodist("compare", DEMO / "cnn" / "config.json", "demo:vit", "-i", "digits", "-k", "8"), 3, "config.json")
    with pytest.raises(UnfitError):
        load_images(DEMO / "cnn" / "config.json")


FREED = """
import numpy as np
from hf_infodist.environment import keep_freed_memory, return_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1])

keep_freed_memory()
before, pieces = resident(), [np.ones(2**17) for _ in range(256)]  # 256 MiB
full, pin = resident(), pieces[-1]  # on top, so that nothing is given back on its own
del pieces
kept = resident()
return_freed_memory()
print((full - kept) / (full - before), (full - resident()) / (full - before))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists() or not platform.libc_ver()[0], reason="not glibc on Linux")
def test_memory_is_kept_until_a_model_is_done_with():
    told = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True).stdout
    at_once, then = map(float, told.split())
    assert at_once < 0.1 < 0.9 < then
