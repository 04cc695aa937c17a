"""Questions put to an atlas by the command line; the one that comes with the package among them."""

import json

import numpy as np
import pytest
from test_cli import run

from hf_infodist.analysis.from_atlas import nearest_in_atlas
from hf_infodist.models import load
from hf_infodist.pair import Execution
from hf_infodist.results.atlas.shipped import SHIPPED, open_atlas

NAME = "demo:digits"
SIXTEEN = 16


@pytest.fixture(scope="module")
def shipped():
    return open_atlas(NAME)


@pytest.fixture
def nothing_is_loaded(monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(load, "fetch_weights", refuse)


def test_the_shipped_atlas_is_small_whole_and_of_digits(shipped):
    size = sum(path.stat().st_size for path in SHIPPED[NAME].rglob("*") if path.is_file())
    assert size < 1e6 and len(shipped.files) == SIXTEEN and shipped.head.images.id == "digits"
    assert not shipped.writable and not list(SHIPPED[NAME].rglob(".*"))
    assert all(file.entry.accuracy > 0.9 for file in shipped.files if not file.entry.id.startswith("random:"))
    assert {file.entry.base_models for file in shipped.files if file.entry.relation} == {
        ("digits/resnet10-0",),
        ("digits/resnet18-0",),
    }


def test_its_table_is_that_of_its_files(shipped):
    import pandas

    table = pandas.read_parquet(SHIPPED[NAME] / "index.parquet")
    assert list(table.model) == shipped.names and list(table.file) == [file.path.name for file in shipped.files]
    assert list(table.bytes) == [file.path.stat().st_size for file in shipped.files]


def test_it_is_asked_where_nobody_else_is_named(capsys, nothing_is_loaded):
    code, out, _ = run(capsys, "nearest", "demo:cnn", "--json")
    found = json.loads(out)
    assert code == 0 and len(found["neighbours"]) == 5 and found["images"]["id"] == "digits"
    nats = [one["nats"] for one in found["neighbours"]]
    assert nats == sorted(nats) and found["neighbours"][0]["model"].startswith("digits/resnet10")
    code, out, _ = run(capsys, "nearest", "demo:cnn", "-q", "-n", 2)
    assert code == 0 and out.split() == [one["model"] for one in found["neighbours"][:2]]


@pytest.mark.parametrize("name", ["demo:vit", "digits/resnet18-0"])
def test_the_nearest_are_those_that_comparing_all_to_the_end_finds(name, shipped, nothing_is_loaded):
    every = nearest_in_atlas(shipped, name, None)
    found = nearest_in_atlas(shipped, name, 4, execution=Execution(fresh=True))
    assert len(every) == SIXTEEN - 1 and [one.nats for one in every] == sorted(one.nats for one in every)
    assert [(one.model_b.id, one.nats) for one in found] == [(one.model_b.id, one.nats) for one in every[:4]]


def test_every_question_about_many_models_can_be_put_to_it(capsys, tmp_path, nothing_is_loaded):
    five = ["demo:cnn", "demo:vit", "digits/vit-0", "digits/vit-1", "digits/vgg-0"]
    code, out, _ = run(capsys, "matrix", *five, "--atlas", NAME, "--json")
    matrix = json.loads(out)
    assert code == 0 and [model["id"] for model in matrix["models"]] == five
    assert np.isfinite(np.array(matrix["nats"], float)).all()
    code, out, _ = run(capsys, "lineage", *five, "--atlas", NAME, "--json")
    assert code == 0 and len(json.loads(out)["models"]) == 5
    code, out, _ = run(capsys, "ensemble", *five, "--atlas", NAME, "--within", 0.1, "--json")
    assert code == 0 and len(json.loads(out)["members"]) == 2
    code, out, _ = run(capsys, "card", "demo:cnn", "--atlas", NAME, "-n", 2, "--json")
    assert code == 0 and len(json.loads(out)["nearest"]) == 2


def test_an_atlas_is_begun_listed_and_asked(capsys, tmp_path):
    folder = tmp_path / "atlas"
    words = ["--atlas", folder]
    code, out, err = run(
        capsys, "atlas", "add", "demo:cnn", "random:demo:vit", *words, "-i", "digits", "-k", 40, "--json"
    )
    added = json.loads(out)
    assert code == 0 and added["new"] == ["demo:cnn", "random:demo:vit"] and "running 2 models on 40 images" in err
    code, out, _ = run(capsys, "atlas", "add", "demo:cnn", "demo:vit", "acme/none", *words, "--json")
    added = json.loads(out)
    assert code == 4 and (added["new"], added["there"]) == (["demo:vit"], ["demo:cnn"])
    assert list(added["failed"]) == ["acme/none"]
    code, out, _ = run(capsys, "atlas", "ls", *words)
    assert code == 0 and "3 models on 40 images of digits" in out and "ViTForImageClassification" in out
    code, out, _ = run(capsys, "atlas", "ls", *words, "-q")
    assert out.split() == ["demo:cnn", "demo:vit", "random:demo:vit"]
    code, out, _ = run(capsys, "nearest", "random:demo:cnn", *words, "--json")
    assert code == 0 and len(json.loads(out)["neighbours"]) == 3


def test_a_model_is_held_against_those_of_its_architecture(capsys, nothing_is_loaded):
    code, out, _ = run(capsys, "lineage", "digits/resnet18-0-rounded", "digits/vit-0", "--atlas", NAME, "--json")
    rounded, vit = json.loads(out)["models"]
    assert code == 0 and (rounded["relation"], rounded["of"]) == ("kin", "digits/resnet18-0")
    assert rounded["p_value"] < 0.01 and rounded["declared"]["bases"] == ["digits/resnet18-0"]
    assert (vit["relation"], vit["p_value"]) == ("none", None)  # two of its kind are too few to tell


def test_the_nearest_are_said_beside_what_a_card_declares(capsys, nothing_is_loaded):
    code, out, _ = run(capsys, "nearest", "digits/resnet18-0-rounded", "--atlas", NAME, "-n", 2)
    told = "digits/resnet18-0-rounded: declared: quantized version of digits/resnet18-0; by distance: "
    assert code == 0 and out.splitlines()[-1] == f"{told}digits/resnet18-0 is number 1"


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["nearest", "demo:cnn", "--atlas", "none"], 3, "there is no atlas 'none'"),
        (["nearest", "demo:cnn", "demo:vit", "--atlas", NAME], 2, "nearest to 'demo:cnn' among what?"),
        (["nearest", "demo:cnn", "--atlas", NAME, "-p", "thorough"], 2, "an atlas cannot answer under protocol"),
        (["nearest", "demo:cnn", "--atlas", NAME, "--orders", "2"], 2, "an atlas cannot answer under protocol"),
        (
            ["nearest", "random:demo:vit", "--atlas", NAME, "-i", "digits", "--seed", "1"],
            4,
            "96 images, seed 1, are not those of",
        ),
        (["matrix"], 2, "a matrix of what?"),
        (["ensemble"], 2, "an ensemble of what?"),
        (["card", "demo:cnn"], 2, "a card of 'demo:cnn' among what?"),
        (["map", "--into", "map"], 2, "a map of what?"),
        (["matrix", "demo:cnn", "digits/none", "--atlas", NAME], 3, "no model is named 'digits/none'"),
        (["atlas", "add", "demo:cnn", "--atlas", "there", "-i", "digits", "-k", "5000"], 4, "digits has 1797 images"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_three_lines(words, code, what, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, out, err = run(capsys, *words)
    lines = err.splitlines()[-3:]
    assert found == code and not out and lines[0].removeprefix("error: ").startswith(what), err
    assert not list(tmp_path.glob("there"))
