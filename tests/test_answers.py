"""A stored answer is found without opening anything, and never when something behind the question has changed."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from hub import LFS, File, serve
from test_cli import copy_demo, image_folder, run
from test_imports import loaded

from hf_infodist import pairwise_distances
from hf_infodist.distances import answers
from hf_infodist.distances.answers import Answer, Question, Watch, find_answer
from hf_infodist.distances.places import Place, read_content, read_state
from hf_infodist.environment import set_environment
from hf_infodist.home import Home
from hf_infodist.images.request import Sample
from hf_infodist.images.sample import load_images
from hf_infodist.models.names import DEMO
from hf_infodist.pair import Execution
from hf_infodist.protocol import CodingProtocol, resolve_protocol
from hf_infodist.results.store import Store

WORDS = ("-k", 12, "-p", "standard")


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A store, and the answer to a question about other folders with the same content."""
    folder = tmp_path_factory.mktemp("computed")
    result, codes = pairwise_distances(["demo:cnn", "demo:vit"], "digits", k=12, execution=Execution(home=folder)), {}
    records = {(record.teacher.id, record.student.id): record for record in Store(Home(folder).codelengths).records()}
    names = [model.id for model in result.models]
    for pair in ((0, 1), (1, 0)):
        codes[pair] = records[names[pair[0]], names[pair[1]]]
    answer = Answer(result.models, result.images, "cpu", {pair: record.codelength for pair, record in codes.items()})
    return folder, answer, {pair: record.key for pair, record in codes.items()}


@pytest.fixture
def asked(computed, tmp_path, monkeypatch, store):
    """Two folders of models and one of images, about which there is a note."""
    home, answer, keys = computed
    set_environment()  # as the command line does
    shutil.copytree(home / "codelengths", store / "codelengths")
    monkeypatch.setattr(answers, "SETTLED_SECONDS", 0)
    a, b = copy_demo(tmp_path / "a", "cnn"), copy_demo(tmp_path / "b", "vit")
    images = image_folder(tmp_path / "images", 16)
    Watch(question(a, b, images)).keep(answer, keys)
    assert find_answer(question(a, b, images))
    return a, b, images


def question(a, b, images, kind="pair"):
    return Question((str(a), str(b)), Sample(str(images), k=12), resolve_protocol("standard", 0, 1), kind)


def again(capsys, *words):
    """What the command says now, and whether it has loaded the models."""
    code, out, err = run(capsys, "compare", *words, *WORDS, "--json")
    assert code == 0, err
    return json.loads(out), "loading" in err


def test_it_is_found_without_torch(asked):
    a, b, images = asked
    argv = [str(word) for word in ("compare", a, b, "-i", images, *WORDS)]
    assert not {"torch", "timm", "transformers", "datasets", "accelerate", "scipy"} & loaded(
        f"from hf_infodist.cli import main\ntry: main({argv!r})\nexcept SystemExit as stop: assert not stop.code"
    )


def test_a_ranking_of_checkpoints_is_found_without_torch_by_its_label(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "SETTLED_SECONDS", 0)
    images = image_folder(tmp_path / "images", 16)
    rows = "".join(f"{i}.png,{i % 2},{i % 3}\n" for i in range(16))
    (images / "metadata.csv").write_text(f"file_name,two,three\n{rows}")
    argv = ["transfer", "demo:cnn", "random:demo:cnn", "-i", str(images), "--label", "two", "--json"]

    def told(*words):
        code, out, err = run(capsys, *words)
        found = json.loads(out)
        return code, found | {"models": [row | {"seconds": 0.0} for row in found["models"]]}, "loading" in err

    first = told(*argv)
    assert first[2] and told(*argv) == (0, first[1], False)
    code = "from hf_infodist.distances import answers\nanswers.SETTLED_SECONDS = 0\nfrom hf_infodist.cli import main\n"
    assert not {"torch", "timm", "transformers", "datasets", "accelerate"} & loaded(
        f"{code}try: main({argv!r})\nexcept SystemExit as stop: assert not stop.code"
    )
    other = told(*argv, "--label", "three")
    assert other[2] and len(other[1]["classes"]) == 3


def test_it_is_found_by_the_same_code_elsewhere_and_not_by_other_code(tmp_path):
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    (package / "models" / "file.py").write_text("1")
    shutil.copytree(package, tmp_path / "installed")
    before = read_content(package)
    (tmp_path / "installed" / "published").mkdir()
    (tmp_path / "installed" / "published" / "README.md").write_text("1")
    assert read_content(tmp_path / "installed", without="published") == before == read_content(package, "published")
    change_in_place(package / "models" / "file.py")
    assert read_content(package) != before
    (tmp_path / "installed" / "models").rename(tmp_path / "installed" / "other")
    assert read_content(tmp_path / "installed") != before


def change_in_place(path):
    """Change a byte of a file, and set its size and the time that it tells as they were."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_weight_changed_in_place_is_another_question(asked):
    a, b, images = asked
    change_in_place(a / "model.safetensors")
    assert find_answer(question(a, b, images)) is None


def test_an_image_replaced_by_one_of_equal_size_and_time_is_another_question(asked):
    a, b, images = asked
    old, new = images / "0.png", images / "1.png"
    before = old.stat()
    content = new.read_bytes()[: before.st_size].ljust(before.st_size, b"\0")
    (images / "new").write_bytes(content)
    os.utime(images / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (images / "new").replace(old)
    assert old.stat().st_size == before.st_size and old.stat().st_mtime_ns == before.st_mtime_ns
    assert find_answer(question(a, b, images)) is None


def test_what_has_changed_is_computed_anew(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(answers, "SETTLED_SECONDS", 0)
    a, images = copy_demo(tmp_path / "a", "cnn"), image_folder(tmp_path / "images", 16)
    first, opened = again(capsys, a, a, "-i", images)
    assert opened and again(capsys, a, a, "-i", images) == (first, False)
    change_in_place(a / "model.safetensors")
    second, opened = again(capsys, a, a, "-i", images)
    assert opened and second["model_a"]["weights"] != first["model_a"]["weights"]


@pytest.mark.parametrize("change", ["one more image", "one less weight file", "another name of an image"])
def test_a_file_that_comes_or_goes_is_another_question(asked, change):
    a, b, images = asked
    assert find_answer(question(a, b, images))
    if change == "one more image":
        shutil.copy(images / "0.png", images / "more.png")
    elif change == "one less weight file":
        (b / "model.safetensors").unlink()
    else:
        (images / "0.png").rename(images / "zero.png")
    assert find_answer(question(a, b, images)) is None


def test_another_version_of_a_library_or_of_the_coding_is_another_question(asked, monkeypatch):
    a, b, images = asked
    with monkeypatch.context() as patch:
        patch.setattr(answers, "installed", lambda package: "99" if package == "timm" else "1")
        assert find_answer(question(a, b, images)) is None
    with monkeypatch.context() as patch:
        patch.setattr(CodingProtocol, "coding", property(lambda protocol: 99))
        assert find_answer(question(a, b, images)) is None
    assert find_answer(question(a, b, images))


def test_another_code_of_learners_is_another_question(asked, monkeypatch, tmp_path):
    a, b, images = asked
    package = tmp_path / "hf_infodist"
    shutil.copytree(Path(answers.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(answers, "__file__", str(package / "distances" / "answers.py"))
    first = question(a, b, images).key
    assert question(a, b, images).key == first
    (package / "protocol.py").write_text((package / "protocol.py").read_text().replace("growth=1.25", "growth=1.26"))
    assert question(a, b, images).key != first


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": resolve_protocol("standard", 1, 1)},
        {"protocol": resolve_protocol("standard", 0, 2)},
        {"protocol": resolve_protocol("sampled", 0, 1)},
        {"kind": "complexity"},
    ],
)
def test_other_settings_are_another_question(asked, other):
    a, b, images = asked
    assert find_answer(replace(question(a, b, images), **other)) is None


def test_a_folder_that_hides_a_name_is_another_question(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = question("demo:cnn", "org/name", "digits").key
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert question("demo:cnn", "org/name", "digits").key != before


def test_a_file_that_has_just_changed_is_not_relied_on(asked, computed, monkeypatch):
    a, b, images = asked
    change_in_place(a / "model.safetensors")
    monkeypatch.setattr(answers, "SETTLED_SECONDS", 0.5)
    Watch(question(a, b, images)).keep(*computed[1:])
    assert find_answer(question(a, b, images)) is None
    time.sleep(0.5)
    Watch(question(a, b, images)).keep(*computed[1:])
    assert find_answer(question(a, b, images))


def test_what_changes_while_it_is_computed_is_not_noted(asked, computed):
    a, b, images = asked
    change_in_place(b / "model.safetensors")
    watch = Watch(question(a, b, images))
    change_in_place(a / "model.safetensors")
    watch.keep(*computed[1:])
    assert find_answer(question(a, b, images)) is None


def test_what_the_store_does_not_have_is_no_answer(asked, store):
    next((store / "codelengths").glob("*.json")).unlink()
    assert find_answer(question(*asked)) is None


def test_a_note_that_cannot_be_read_is_no_answer_and_one_that_cannot_be_written_no_error(asked, computed, store):
    for note in (store / "answers").iterdir():
        note.write_text(note.read_text()[:-9])
    assert find_answer(question(*asked)) is None
    shutil.rmtree(store / "answers")
    (store / "answers").write_text("")
    Watch(question(*asked)).keep(*computed[1:])


def test_a_link_to_other_files_is_another_state(tmp_path):
    a, b = copy_demo(tmp_path / "a", "cnn"), copy_demo(tmp_path / "b", "cnn")
    (tmp_path / "link").symlink_to(a)
    before = read_state([Place(str(tmp_path / "link"))])
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(b)
    assert read_state([Place(str(tmp_path / "link"))])[0] != before[0]


def test_a_matrix_and_a_complexity_are_found_too(capsys, monkeypatch):
    matrix = ("matrix", "demo:cnn", "demo:vit", "random:demo:cnn", "-i", "digits", *WORDS, "--json")
    complexity = ("complexity", "demo:cnn", "-i", "digits", *WORDS, "--json")
    first = [run(capsys, *words)[1] for words in (matrix, complexity)]
    monkeypatch.setattr("hf_infodist.models.load.load_classifier", None)
    monkeypatch.setattr("hf_infodist.distances.pairwise.load_classifier", None)
    assert [run(capsys, *words)[1] for words in (matrix, complexity)] == first


@pytest.mark.slow
def test_a_stored_answer_takes_less_than_one_and_a_half_seconds(capsys, store):
    words = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", "400"]
    assert run(capsys, *words)[0] == 0
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "hf_infodist.cli", *words], check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.5


@pytest.mark.slow
def test_a_reference_that_has_moved_is_another_question(tmp_path, store):
    """Of a model and of a data set, with and without a connection."""
    parts = {file.name: file.read_bytes() for file in (DEMO / "cnn").iterdir()}
    tables = []
    for seed in (0, 1):
        picture = datasets.Dataset.from_dict({"image": list(load_images("digits", k=16, seed=seed))})
        picture.cast_column("image", datasets.Image()).to_parquet(tmp_path / f"{seed}.parquet")
        tables.append({"data/train.parquet": (tmp_path / f"{seed}.parquet").read_bytes()})
    with serve(tmp_path) as hub:
        model, photos = hub.put("models", "acme/a", parts), hub.put("datasets", "acme/photos", tables[0])
        online = os.environ | hub.environment(tmp_path / "reader") | {"INFODIST_HOME": str(store)}
        offline = online | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

        def ask(environment):
            name = f"{hub.url}/acme/a/tree/main"
            words = ["compare", name, "demo:vit", "-i", "hf://datasets/acme/photos", *map(str, WORDS), "--json"]
            command = [sys.executable, "-m", "hf_infodist.cli", *words]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout), "loading" in done.stderr

        first, _ = ask(online)  # its files are too new to be relied on
        time.sleep(answers.SETTLED_SECONDS)
        assert ask(online) == (first, True) and ask(online) == (first, False)
        assert ask(offline) == (first, True) and ask(offline) == (first, False)
        weights = bytearray(parts["model.safetensors"])
        weights[-1] ^= 1
        changed = parts | {"model.safetensors": bytes(weights)}
        model.commit({path: File(hub.keep(data), lfs=path.endswith(LFS)) for path, data in changed.items()})
        second, opened = ask(online)
        assert opened and second["model_a"]["weights"] != first["model_a"]["weights"]
        assert ask(offline) == (second, True)  # the cache has the new commit
        photos.commit({path: File(hub.keep(data), lfs=True) for path, data in tables[1].items()})
        third, opened = ask(online)
        assert opened and third["images"]["fingerprint"] != second["images"]["fingerprint"]
