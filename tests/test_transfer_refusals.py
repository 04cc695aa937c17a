"""What `infodist transfer` refuses of labels, in three lines and before a model is loaded."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from networks import noise_images
from test_cli import run

K = 12
PICTURES = noise_images(K)
SPECIES = Value("string")
TABLES = {  # type and values of the column ``y``, options, exit code, what is said
    "no such column": (SPECIES, ["cat", "dog"] * 6, ("--label", "species"), 3, "no column 'species'"),
    "regression": (Value("float32"), np.linspace(0, 1, K), ("--label", "y"), 4, "target of regression"),
    "one class": (SPECIES, ["cat"] * K, ("--label", "y"), 4, "are of one class, 'cat'"),
    "a label per pixel": (Image(), PICTURES, ("--label", "y", "--column", "image"), 4, "one class for each image"),
    "k smaller than the classes": (ClassLabel(12), list(range(K)), ("--label", "y", "-k", 5), 4, "its 12 classes"),
    "no column of classes": (SPECIES, ["cat", "dog"] * 6, (), 4, "has no labels"),
    "no label known": (ClassLabel(2), [-1] * K, ("--label", "y"), 4, "no image of"),
    "fewer labels than k": (Value("int64"), [0, 1, None] * 4, ("--label", "y", "-k", 9), 4, "has 8 labelled images"),
}


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr("hf_infodist.distances.transfer.load_classifier", lambda *_, **__: pytest.fail("loaded"))


def refused(capsys, *words):
    """Return the exit code and the three lines of the error, the last that is said."""
    capsys.readouterr()  # bars of `datasets`, which has written the table
    code, out, err = run(capsys, "transfer", "demo:cnn", "-i", *words)
    said, _, refusal = err.partition("error: ")
    lines = refusal.splitlines()
    assert not out and len(lines) == 3 and said.count("\n") == 1, err
    return code, lines


@pytest.mark.parametrize("case", TABLES)
def test_a_column_that_holds_no_classes_to_learn(case, capsys, tmp_path, no_model):
    kind, values, words, expected, said = TABLES[case]
    features = Features({"image": Image(), "y": kind})
    Dataset.from_dict({"image": PICTURES, "y": values}, features).to_parquet(tmp_path / "table.parquet")
    code, lines = refused(capsys, tmp_path / "table.parquet", *words)
    assert code == expected and said in " ".join(lines)


def test_images_without_labels(capsys, tmp_path, no_model):
    for i, picture in enumerate(PICTURES):
        picture.save(tmp_path / f"{i}.png")
    code, lines = refused(capsys, tmp_path)
    assert code == 4 and "has no labels" in lines[0] and "folder" in lines[2]
