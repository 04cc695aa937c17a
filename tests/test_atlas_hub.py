"""An atlas goes to a dataset repository and comes back; what a stranger has put there is data, or is not taken."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pandas
import pytest
from atlases import add, fill, told
from front_matter import front_matter
from hub import GUEST, OWNER, serve
from huggingface_hub.errors import HfHubHTTPError

from hf_infodist.errors import NotFoundError
from hf_infodist.results.atlas import hub as exchange
from hf_infodist.results.atlas.folder import Atlas, Joined

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
K, CLASSES = 12, 3
OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1")

CODE = """
import json, sys
from pathlib import Path
from hf_infodist.errors import InfodistError
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.atlas.hub import open_atlas, pull, push

def opened(word):
    atlas = open_atlas(word)
    return {"names": [file.entry.id for file in atlas.sound], "writable": atlas.writable, "at": str(atlas.folder)}

def ask(what, *words):
    try:
        if what == "open":
            return opened(*words)
        if what == "push":
            return vars(push(Atlas.open(Path(words[0])), words[1]))
        return vars(pull(words[0], Path(words[1]), words[2:]))
    except InfodistError as error:
        return {"error": str(error).splitlines(), "code": error.exit_code}

print(json.dumps([ask(*each) for each in json.loads(sys.argv[1])]))
"""


def run(environment, *asked):
    """Exchange atlases in a process of its own; return what came of each."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    words = json.dumps([[str(word) for word in each] for each in asked])
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", CODE, words],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def owner(hub, tmp_path):
    return hub.environment(tmp_path / "owner", OWNER)


@pytest.fixture
def reader(hub, tmp_path):
    return hub.environment(tmp_path / "reader")


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "models").glob("*.safetensors")}


def table(repository):
    return pandas.read_parquet(io.BytesIO(repository.files()["index.parquet"].content.read_bytes()))


def test_an_atlas_comes_back_to_the_bit_and_in_parts(hub, owner, reader, tmp_path):
    mine = fill(tmp_path / "mine", ("acme/one", "acme/two", "acme/three"), K, CLASSES)
    names, fetched = ["acme/one", "acme/three", "acme/two"], lambda: sum("/resolve/" in line for line in hub.log)
    first, second = run(owner, ("push", mine.folder, "acme/atlas"), ("push", mine.folder, "acme/atlas"))
    repository = hub["datasets/acme/atlas"]
    assert first == {"new": names, "same": [], "unreadable": []} and second["same"] == names and not second["new"]
    assert len(repository.commits) == 2, "one is empty, one has all"
    card = repository.text("README.md")
    assert front_matter(card)["configs"] == [{"config_name": "models", "data_files": "index.parquet"}]
    assert "--atlas acme/atlas" in card and list(table(repository)["model"]) == names
    one = mine.find("acme/two").path.name
    part, again, rest = run(
        reader,
        ("pull", "acme/atlas", tmp_path / "theirs", "two"),
        ("pull", "acme/atlas", tmp_path / "theirs", "two"),
        ("pull", "acme/atlas", tmp_path / "theirs"),
    )
    assert (part["new"], again["new"], again["same"]) == (["acme/two"], [], ["acme/two"])
    assert (rest["new"], rest["same"]) == (["acme/one", "acme/three"], ["acme/two"])
    assert sum(one in line and line.startswith("GET") for line in hub.log) == 1, "it was fetched once"
    assert contents(tmp_path / "theirs") == contents(mine.folder) and fetched()
    add(mine, "acme/four")
    third, *_ = run(owner, ("push", mine.folder, "acme/atlas"))
    assert third["new"] == ["acme/four"] and len(third["same"]) == 3 and len(repository.commits) == 3
    assert list(table(repository)["model"]) == sorted([*names, "acme/four"])
    assert repository.text("README.md") == card


def test_it_is_opened_by_its_name_and_the_second_time_without_a_network(hub, owner, reader, tmp_path):
    mine = fill(tmp_path / "mine", ("acme/one", "acme/two"), K, CLASSES)
    run(owner, ("push", mine.folder, "acme/opened"))
    commit = hub["datasets/acme/opened"].refs["main"]
    first, address = run(reader, ("open", "acme/opened"), ("open", f"{hub.url}/datasets/acme/opened"))
    asked = len(hub.log)
    offline, pinned = run(reader | OFFLINE, ("open", "acme/opened"), ("open", f"acme/opened@{commit}"))
    assert first["names"] == ["acme/one", "acme/two"] and not first["writable"]
    assert first == address == offline == pinned and len(hub.log) == asked
    assert run(reader, ("open", mine.folder))[0]["writable"]
    add(mine, "acme/three")
    run(owner, ("push", mine.folder, "acme/opened"))
    now, before = run(reader, ("open", "acme/opened"), ("open", f"acme/opened@{commit}"))
    assert len(now["names"]) == 3 and before["names"] == first["names"]


def test_two_who_push_other_models_keep_each_other(hub, owner, tmp_path):
    mine = fill(tmp_path / "mine", ("acme/one", "acme/both"), K, CLASSES)
    other = fill(tmp_path / "other", ("acme/both", "acme/two"), K, CLASSES)
    by_hand = fill(tmp_path / "by_hand", ("acme/hand",), K, CLASSES)
    run(owner, ("push", mine.folder, "acme/shared"))
    repository = hub["datasets/acme/shared"]
    path = by_hand.files[0].path
    extra = {f"models/{path.name}": path.read_bytes()}
    files = {name: file.content.read_bytes() for name, file in repository.files().items()} | extra
    repository = hub.put("datasets", "acme/shared", files)
    (joined,) = run(owner, ("push", other.folder, "acme/shared"))
    assert (joined["new"], joined["same"]) == (["acme/two"], ["acme/both"])
    assert list(table(repository)["model"]) == ["acme/both", "acme/hand", "acme/one", "acme/two"]
    assert list(table(repository)["classes"][0]) == ["class 0", "class 1", "class 2"]


def test_other_images_nobody_signed_in_and_nothing_there_are_told_in_three_lines(hub, owner, reader, tmp_path):
    mine = fill(tmp_path / "mine", ("acme/one",), K, CLASSES)
    other = fill(tmp_path / "other", ("acme/two",), K, CLASSES, fingerprint="others")
    run(owner, ("push", mine.folder, "acme/kept"))
    hub.put("datasets", "acme/no-atlas", {"README.md": b"# Something else"})
    refs, before = dict(hub["datasets/acme/kept"].refs), contents(other.folder)
    more = fill(tmp_path / "more", ("acme/three",), K, CLASSES)
    asked = [
        (owner, ("push", other.folder, "acme/kept"), 4, "other images"),
        (reader, ("pull", "acme/kept", other.folder), 4, "other images"),
        (reader, ("pull", "acme/kept", tmp_path / "new", "acme/nothing"), 3, "no model is named"),
        (reader, ("push", mine.folder, "acme/kept"), 2, "hf auth login"),
        (reader, ("open", "acme/nowhere"), 3, "no public dataset"),
        (reader, ("open", "acme/no-atlas"), 3, "no atlas.json"),
        (reader, ("open", "\x1b[2J"), 3, "no folder"),
        (reader, ("open", "x" * 5000), 3, "no folder"),
        (hub.environment(tmp_path, GUEST), ("push", more.folder, "acme/kept"), 3, "refused"),
        (reader | OFFLINE, ("open", "acme/kept-elsewhere"), 3, "HF_HUB_OFFLINE"),
        (reader | {"HF_ENDPOINT": "http://127.0.0.1:9"}, ("open", "acme/away"), 3, "cannot be reached"),
    ]
    for environment, group in itertools.groupby(asked, key=lambda each: each[0]):
        cases = list(group)
        answers = run(environment, *(words for _, words, *_ in cases))
        for answer, (_, _, code, text) in zip(answers, cases, strict=True):
            assert answer.get("code") == code and len(answer["error"]) == 3, answer
            assert text in "\n".join(answer["error"]) and "\x1b" not in "".join(answer["error"]), answer
    assert hub["datasets/acme/kept"].refs == refs and contents(other.folder) == before
    assert not (tmp_path / "new").exists()


def test_of_a_hostile_repository_only_sound_models_are_taken(hub, reader, tmp_path):
    whole = fill(tmp_path / "whole", ("acme/good", "acme/bad"), K, CLASSES)
    good, bad = (whole.find(name).path for name in ("acme/good", "acme/bad"))
    rows = pandas.read_parquet(whole.folder / "index.parquet")
    paths = ["../../../stolen.safetensors", "/etc/passwd", "\x1b[2J", "models/x", f"{'a' * 32}.safetensors\n"]
    rows = pandas.concat([rows, *[rows.iloc[:1].assign(model=f"acme/evil-{n}", file=p) for n, p in enumerate(paths)]])
    rows = pandas.concat([rows.assign(model=rows["model"]), rows.iloc[:1].assign(model="acme/absent", file="b" * 44)])
    index = io.BytesIO()
    rows[rows["file"].map(str.isprintable)].to_parquet(index)
    files = {
        "atlas.json": (whole.folder / "atlas.json").read_bytes(),
        "index.parquet": index.getvalue(),
        f"models/{good.name}": good.read_bytes(),
        f"models/{bad.name}": bad.read_bytes()[:-7],
        f"models/{'c' * 32}.safetensors": b"\x80\x04cos\nsystem\n",
        f"models/{'d' * 32}.pkl": b"\x80\x04cos\nsystem\n",
        f"models/sub/{'e' * 32}.safetensors": good.read_bytes(),
        f"sub/models/{'e' * 32}.safetensors": good.read_bytes(),
        "models/evil.py": b"raise SystemExit",
        "atlas.py": b"raise SystemExit",
    }
    hub.put("datasets", "acme/evil", files)
    pulled, opened, none, one = run(
        reader,
        ("pull", "acme/evil", tmp_path / "mine"),
        ("open", "acme/evil"),
        ("pull", "acme/evil", tmp_path / "mine", "acme/evil-0"),
        ("pull", "acme/evil", tmp_path / "other", "acme/good"),
    )
    assert pulled["new"] == ["acme/good"]
    assert pulled["unreadable"] == sorted([bad.name, f"{'c' * 32}.safetensors"])
    assert opened["names"] == ["acme/good"] and "no model is named" in none["error"][0] and one["new"] == ["acme/good"]
    assert contents(tmp_path / "mine") == contents(tmp_path / "other") == {good.name: good.read_bytes()}
    cached = {path.name for path in Path(opened["at"]).rglob("*") if not path.is_dir()}
    assert cached == {"atlas.json", "index.parquet", good.name, bad.name, f"{'c' * 32}.safetensors"}
    for damaged in (b"PAR1", b"", b"\x80\x04cos\nsystem\n"):
        hub.put("datasets", "acme/evil", files | {"index.parquet": damaged})
        (all_of_it, named) = run(
            reader, ("pull", "acme/evil", tmp_path / "third"), ("pull", "acme/evil", tmp_path / "mine", "acme/good")
        )
        assert all_of_it["new"] == ["acme/good"] and "chosen by its name" in named["error"][0]
        shutil.rmtree(tmp_path / "third")


def test_a_table_too_large_is_not_read(tmp_path):
    from hf_infodist.results.atlas.index import read_rows

    pandas.DataFrame({"model": ["a"] * 10**6, "file": ["b"] * 10**6}).to_parquet(tmp_path / "many.parquet")
    pandas.DataFrame({"model": ["a\x1b"], "file": ["b"]}).to_parquet(tmp_path / "escapes.parquet")
    pandas.DataFrame({"model": [7], "file": ["b"]}).to_parquet(tmp_path / "number.parquet")
    for name in ("many", "escapes", "number"):
        with pytest.raises(ValueError, match="it has"):
            read_rows(tmp_path / f"{name}.parquet")


def test_the_table_is_read_by_datasets(hub, owner, reader, tmp_path):
    mine = fill(tmp_path / "mine", ("acme/one", "acme/two"), K, CLASSES)
    run(owner, ("push", mine.folder, "acme/viewed"))
    code = "import datasets; print(datasets.load_dataset('acme/viewed', split='train')['model'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | reader, capture_output=True, text=True, check=False
    )
    assert "acme/one" in done.stdout and "acme/two" in done.stdout, done.stderr


class Answer:
    """What the Hub says to a commit on what is no longer the last one."""

    status_code, headers, request = 412, {}, None


class Busy:
    """A hub to which somebody else always pushes first, for some time."""

    def __init__(self, times):
        self.times, self.tried = times, 0

    def __call__(self):
        return self

    def create_repo(self, *args, **options):
        """Make nothing."""

    def dataset_info(self, *args, **options):
        return huggingface_hub.hf_api.DatasetInfo(id="acme/busy", sha="a" * 40, private=False, siblings=[])

    def create_commit(self, *args, **options):
        self.tried += 1
        assert options["parent_commit"] == "a" * 40
        if self.tried <= self.times:
            raise HfHubHTTPError("changed", response=Answer())


def test_who_pushes_at_the_same_time_looks_again(tmp_path, monkeypatch):
    mine, busy = fill(tmp_path / "mine", ("acme/one",), K, CLASSES), Busy(3)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", busy)
    assert exchange.push(mine, "acme/busy") == Joined(("acme/one",), ()) and busy.tried == 4
    monkeypatch.setattr(huggingface_hub, "HfApi", Busy(99))
    with pytest.raises(NotFoundError) as refused:
        exchange.push(mine, "acme/busy")
    assert len(told(refused)) == 3 and "412" in told(refused)[1]


def test_a_part_in_the_cache_is_told(tmp_path, monkeypatch, caplog):
    mine = fill(tmp_path / "snapshots" / "commit", ("acme/one", "acme/two"), K, CLASSES)
    mine.find("acme/one").path.unlink()
    monkeypatch.setattr(exchange, "_fetch", lambda *args: Atlas.open(mine.folder, writable=False))
    assert exchange.open_atlas("acme/part").names == ["acme/two"]
    assert "1 models of its table are not at hand" in caplog.text
