"""The studies that draw maps: their pictures show what their labels say, and they run from data to figures."""

import json
import os

import numpy as np
import pytest
import torch

from hf_infodist.errors import NotFoundError
from hf_infodist.models.load import load_classifier
from hf_infodist.studies import datasets_map, run_study, zoo_map
from hf_infodist.studies.measures.matrices import shares_of_variance
from hf_infodist.studies.networks import data
from hf_infodist.studies.networks.data import Task, shapes


def grey(task):
    return task.images.astype(float) / 255


@pytest.mark.parametrize(("asked", "other_axis"), [("x", 1), ("y", 2)])
def test_the_label_of_a_position_is_where_the_shape_is(asked, other_axis):
    task, symmetric = shapes(asked, 300), shapes("form", 300).labels < 2
    weight = grey(task).sum(axis=other_axis)  # [N, 28]
    place = weight @ (np.arange(28) + 0.5) / weight.sum(1)
    part = (place - 9) / 10 * 8  # centres lie between 9 and 19 pixels; a heart's is a little off
    assert (np.floor(part[symmetric]) == task.labels[symmetric]).mean() > 0.98
    assert (abs(part - task.labels - 0.5) < 1.3).all()


def test_the_label_of_size_grows_with_the_area_of_each_form():
    task, form = shapes("size", 400), shapes("form", 400).labels
    area = grey(task).sum((1, 2))
    for one in range(3):
        of_form = form == one
        assert np.corrcoef(task.labels[of_form], area[of_form])[0, 1] > 0.9


def test_the_label_of_orientation_is_the_direction_of_an_ellipse():
    task, ellipse = shapes("orientation", 400), shapes("form", 400).labels == 1
    for image, label in zip(grey(task)[ellipse], task.labels[ellipse], strict=True):
        y, x = np.indices((28, 28)) + 0.5
        x, y = x - (image * x).sum() / image.sum(), y - (image * y).sum() / image.sum()
        turn = 0.5 * np.arctan2(2 * (image * x * y).sum(), (image * (x**2 - y**2)).sum())  # of the longest axis
        assert label * np.pi / 12 - 0.1 < turn % np.pi < (label + 1) * np.pi / 12 + 0.1 or turn % np.pi > np.pi - 0.1


def test_all_questions_are_about_the_same_shapes_and_every_answer_occurs():
    tasks = [shapes(asked, 300) for asked in ("x", "y", "size", "orientation", "form")]
    for task in tasks:
        assert task.images is tasks[0].images and set(task.labels) == set(range(len(task.classes)))
    assert not np.array_equal(shapes("x", 300, seed=1).images, tasks[0].images)


def test_some_classes_are_counted_anew_in_the_order_given():
    task = Task("t", np.arange(5)[:, None, None], np.array([0, 1, 2, 1, 0]), ("a", "b", "c"))
    some = task.only((2, 0))
    assert (
        some.classes == ("c", "a") and some.labels.tolist() == [1, 0, 1] and some.images.ravel().tolist() == [0, 2, 4]
    )
    assert task.first(2, skip=1).labels.tolist() == [1, 2]


def test_families_of_the_zoo():
    families = {one.name: one.family for one in zoo_map.ZOO}
    assert set(families.values()) == {"resnet", "vgg", "vit"} and len(zoo_map.ZOO) == 13
    assert families["resnet10-wide-all"] == "resnet" and families["vgg-all"] == families["vgg-bn-tops"] == "vgg"
    near, far = zoo_map.questions(zoo_map.ZOO)["task before architecture"]
    names = [one.name for one in zoo_map.ZOO]
    a, p, q = (names.index(name) for name in ("resnet10-tops", "vit-tops", "resnet18-all"))
    assert near(a, p) and far(a, q) and not near(a, q) and not far(a, p)


def test_where_only_the_teacher_counts_it_explains_everything():
    groups = [number // 2 for number in range(40)]
    nats = np.exp(np.random.default_rng(0).normal(size=(40, 1))) * np.ones((1, 40))
    nats[0, 1] = 1e9  # of one group: it does not count
    shares, turned = shares_of_variance(nats, groups), shares_of_variance(nats.T, groups)
    assert shares["teacher"] == turned["student"] == pytest.approx(1)
    assert shares["student"] == pytest.approx(turned["teacher"]) and shares["student"] < 0.1
    noise = np.exp(np.random.default_rng(0).normal(size=(40, 40)))
    assert max(shares_of_variance(noise, groups).values()) < 0.1


def test_missing_data_is_named_with_the_line_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "FASHION", tmp_path)
    with pytest.raises(NotFoundError, match="apt install dataset-fashion-mnist"):
        run_study("zoo_map", ["--work", str(tmp_path / "work")])
    assert not (tmp_path / "work").exists()


def test_the_mixture_has_as_many_pictures_of_each_source_and_none_that_is_trained_on():
    tasks = {"digits": data.digits(), "shapes-x": shapes("x", 60), "shapes-y": shapes("y", 60)}
    pictures = datasets_map.mixture(tasks, 40)
    assert len(pictures) == 40
    np.testing.assert_array_equal(pictures[:20], tasks["digits"].images[:20])
    np.testing.assert_array_equal(pictures[20:], tasks["shapes-x"].images[:20])
    assert datasets_map.HELD_OUT > 20


@pytest.mark.slow
def test_mnist_has_as_many_pictures_of_each_digit():
    task = data.mnist()
    assert task.images.shape == (5000, 28, 28) and np.bincount(task.labels).tolist() == [500] * 10
    means = [task.images[task.labels == digit].mean() for digit in range(10)]
    assert np.argmin(means) == 1 and np.argmax(means) == 0  # the least and the most ink


def figures(folder, study, models):
    fields = json.loads((folder / f"{study}.json").read_text())
    assert len(fields["matrix"]["models"]) == models and fields["command"].startswith(f"infodist study {study}")
    for name in ("matrix", "tree", "map2d", "map3d"):
        assert (folder / f"{name}.png").stat().st_size < 150_000
    return fields


@pytest.mark.slow
def test_the_zoo_is_trained_measured_and_drawn(tmp_path, capsys):
    if not data.FASHION.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("apt install dataset-fashion-mnist")
    names = ["resnet10-all", "resnet10-all-s1", "resnet10-tops", "resnet10-rest"]
    words = [
        "--work",
        tmp_path,
        "-k",
        40,
        "--train",
        3000,
        "--epochs",
        1,
        *(word for name in names for word in ("--model", name)),
        "--seeds",
        2,
        "--output",
        tmp_path / "out",
    ]
    run_study("zoo_map", list(map(str, words)))
    fields = figures(tmp_path / "out", "zoo_map", 4)
    assert fields["triplets"]["same task"]["infodist"] == {"accuracy": 1.0, "triplets": 4}
    assert fields["accuracy"].keys() == set(names) and min(fields["accuracy"].values()) > 0.3
    first, second = fields["repeats"]
    assert first["triplets"] == fields["triplets"] and first["accuracy"] != second["accuracy"]
    weights = {
        one.name: (tmp_path / one.name, tmp_path / "repeat-1" / one.name) for one in zoo_map.ZOO if one.name in names
    }
    files = [(folder / "model.safetensors").read_bytes() for pair in weights.values() for folder in pair]
    assert len(set(files)) == 8  # a repeat has no network of another one
    printed = capsys.readouterr().out
    assert "mean of 2 repeats" in printed and "same task" in printed
    with torch.inference_mode():  # what was saved in timm's layout is what was measured
        loaded = load_classifier(str(tmp_path / "resnet10-tops")).network(torch.ones(2, 3, 28, 28))
    assert loaded.shape == (2, 5)


@pytest.mark.slow
def test_datasets_are_trained_measured_and_drawn(tmp_path):
    words = [
        "--work",
        tmp_path,
        "-k",
        40,
        "--steps",
        60,
        "--task",
        "digits",
        "--task",
        "shapes-x",
        "--output",
        tmp_path / "out",
    ]
    run_study("datasets_map", list(map(str, words)))
    share = figures(tmp_path / "out", "datasets_map", 4)["triplets"]["same dataset"]["infodist"]
    assert share["triplets"] == 8 and share["accuracy"] > 0.7
