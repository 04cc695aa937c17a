"""Which column holds the classes of images, and what is refused."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value
from networks import noise_images

from hf_infodist import rank_checkpoints
from hf_infodist.errors import InfodistError, NotFoundError, UnfitError, UsageError
from hf_infodist.images.sample import load_images, load_labelled_images

K = 12
PICTURES = noise_images(K)


def dataset(kind, values, column="label"):
    features = Features({"image": Image(), column: kind})
    return Dataset.from_dict({"image": PICTURES[: len(values)], column: values}, features)


ANIMALS = ["dog", "cat", "cow"] * 4
KINDS = {
    "class label": dataset(ClassLabel(names=["dog", "cat", "cow"]), [0, 1, 2] * 4),
    "whole numbers": dataset(Value("int64"), [3, 1, 2] * 4),
    "texts": dataset(Value("string"), ANIMALS),
    "truth": dataset(Value("bool"), [True, False, True] * 4),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_class_is_read(kind, stream):
    source = KINDS[kind]
    images = load_labelled_images(source.to_iterable_dataset() if stream else source, "label", k=10)
    rows = [int(images.name_of(i).split()[1]) for i in range(10)]
    names = images.label_names
    told = [names[label] for label in images.labels]
    feature = source.features["label"]
    real = [feature.int2str(y) if isinstance(feature, ClassLabel) else str(y) for y in source["label"]]
    assert told == [real[row] for row in rows]
    assert images.fingerprint == load_images(source, k=10).fingerprint  # the same images as without labels


def test_folders_by_class_and_the_built_in_digits_have_labels(tmp_path):
    for i, picture in enumerate(PICTURES):
        (tmp_path / f"class{i % 2}").mkdir(exist_ok=True)
        picture.save(tmp_path / f"class{i % 2}" / f"{i}.png")
    images = load_labelled_images(str(tmp_path))
    assert images.label_names == ("class0", "class1") and sorted(images.labels) == [0] * 6 + [1] * 6
    assert len(set(load_labelled_images("digits", k=50).labels)) == 10
    with pytest.raises(NotFoundError, match="no column 'species'"):
        load_labelled_images(str(tmp_path), "species")


METADATA = {
    "csv": lambda rows: "file_name,species,size,score\n" + "".join(f"{a},{b},{c},{d}\n" for a, b, c, d in rows),
    "jsonl": lambda rows: "".join(
        json.dumps({"file_name": a, "species": b, "size": c or None, "score": d}) + "\n" for a, b, c, d in rows
    ),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", METADATA)
def test_metadata_beside_images_have_labels(kind, streaming, tmp_path):
    rows = [(f"{i}.png", ANIMALS[i], ["", 2, 10][i % 3], i / 10) for i in range(K)]
    for picture, (name, *_) in zip(PICTURES, rows, strict=True):
        picture.save(tmp_path / name)
    (tmp_path / f"metadata.{kind}").write_text(METADATA[kind](rows))
    images = load_labelled_images(str(tmp_path), "species", streaming=streaming)
    numbers = [int(images.name_of(i).split()[1]) for i in range(K)]
    assert [images.label_names[label] for label in images.labels] == [ANIMALS[i] for i in numbers]
    assert images.fingerprint == load_images(str(tmp_path), streaming=streaming).fingerprint
    sizes = load_labelled_images(str(tmp_path), "size")
    assert sizes.label_names == ("2", "10") and len(sizes) == 8
    with pytest.raises(UnfitError, match="regression"):
        load_labelled_images(str(tmp_path), "score")
    with pytest.raises(NotFoundError, match=r"it has file_name, species, size, score"):
        load_labelled_images(str(tmp_path), "colour")
    with pytest.raises(UnfitError, match=r"has no labels"):
        load_labelled_images(str(tmp_path))


def test_metadata_of_several_files_are_one_table(tmp_path):
    for i, picture in enumerate(PICTURES):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        picture.save(tmp_path / "ab"[i % 2] / f"{i}.png")
    for part in (0, 1):
        rows = "".join(f"{i}.png,{ANIMALS[i]}\n" for i in range(part, K, 2))
        (tmp_path / "ab"[part] / "metadata.csv").write_text(f"file_name,label\n{rows}")
    images = load_labelled_images(str(tmp_path))
    order = [*range(0, K, 2), *range(1, K, 2)]
    rows = [int(images.name_of(i).split()[1]) for i in range(K)]
    assert [images.label_names[label] for label in images.labels] == [ANIMALS[order[row]] for row in rows]
    (tmp_path / "b" / "metadata.csv").write_text("file_name,label\n1.png,7\n")
    with pytest.raises(UnfitError, match="no single table"):
        load_labelled_images(str(tmp_path))


@pytest.mark.parametrize("missing", [-1, None])
@pytest.mark.parametrize("stream", [False, True])
def test_images_without_a_label_are_left_out_and_counted(missing, stream, caplog):
    source = dataset(Value("int64"), [missing, 0, 1, missing] * 3)
    images = load_labelled_images(source.to_iterable_dataset() if stream else source)
    assert len(images) == 6 and set(images.labels) == {0, 1}
    assert "6 of 12 images" in caplog.text and "left out" in caplog.text
    assert len(load_labelled_images(source, k=5)) == 5


def test_a_loaded_sample_keeps_its_order():
    source = dataset(ClassLabel(names=["a", "b"]), [-1, 0, 1, -1] * 3)
    direct, indirect = load_labelled_images(source), load_labelled_images(load_images(source))
    assert direct.labels == indirect.labels and direct.fingerprint == indirect.fingerprint
    assert [np.asarray(a).sum() for a in direct] == [np.asarray(b).sum() for b in indirect]


def test_the_column_that_is_meant_is_found_or_asked_for():
    both = dataset(ClassLabel(names=["a", "b"]), [0, 1] * 6, "fine").add_column("coarse", ANIMALS)
    assert load_labelled_images(both).label_names == ("a", "b")
    assert load_labelled_images(both, "coarse").label_names == ("cat", "cow", "dog")
    two = both.cast_column("coarse", ClassLabel(names=["cat", "cow", "dog"]))
    with pytest.raises(UsageError, match="several columns of classes"):
        load_labelled_images(two)


MASKS = dataset(Image(), PICTURES, "mask")
BAD = {  # what is given, options, the kind of error, what it says
    "no such column": (KINDS["texts"], {"label": "species"}, NotFoundError, "no column 'species'"),
    "a target of regression": (dataset(Value("float32"), np.linspace(0, 1, K)), {}, UnfitError, "regression"),
    "one class": (dataset(Value("string"), ["cat"] * K), {}, UnfitError, "one class, 'cat'"),
    "a label per pixel": (MASKS, {"label": "mask", "column": "image"}, UnfitError, "an image in it"),
    "boxes": (dataset(Sequence(Value("int64")), [[1, 2]] * K), {}, UnfitError, "several values in it"),
    "times": (dataset(Value("timestamp[s]"), [0] * K), {}, UnfitError, "timestamp"),
    "fewer images than classes": (dataset(Value("int64"), list(range(K))), {"k": 5}, UnfitError, "12 classes"),
    "no column of labels": (dataset(Value("string"), ANIMALS, "name"), {}, UnfitError, "has no labels"),
    "nothing labelled": (dataset(Value("int64"), [-1] * K), {}, UnfitError, "no image of .* has a label"),
    "a list without classes": (PICTURES, {}, UnfitError, "list has no labels"),
    "more than there are": (dataset(Value("int64"), [0, 1, -1] * 4), {"k": 9}, UnfitError, "8 labelled images"),
    "a protocol of whole outputs": (KINDS["texts"], {"protocol": "paper"}, UsageError, "unknown protocol"),
    "no model": (KINDS["texts"], {"models": []}, UsageError, "no model"),
    "a model twice": (KINDS["texts"], {"models": ["demo:cnn"] * 2}, UsageError, "named twice"),
    "a model that is not there": (KINDS["texts"], {"models": ["./nowhere"]}, NotFoundError, "no folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_three_lines_before_a_model_is_run(case, monkeypatch):
    source, options, kind, said = BAD[case]
    monkeypatch.setattr(
        "hf_infodist.distances.transfer.load_classifier", lambda *_, **__: pytest.fail("it was loaded")
    )
    with pytest.raises(kind, match=said) as refused:
        rank_checkpoints(**{"models": ["demo:cnn"], "images": source, **options})
    assert isinstance(refused.value, InfodistError) and len(str(refused.value).splitlines()) == 3
