"""The members are the most different of the good models, and the gain is what their average has."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from hf_infodist.analysis import ensemble
from hf_infodist.analysis.averaging import Interval, class_probabilities, hits_and_losses, measure_gain
from hf_infodist.analysis.ensemble import choose_ensemble, pick_different
from hf_infodist.cli import main
from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.images.sample import load_images
from hf_infodist.models.load import load_classifier


def distances(n, seed=0):
    upper = np.triu(np.random.default_rng(seed).uniform(1, 100, (n, n)), 1)
    return upper + upper.T


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_no_choice_is_farther_apart():
    d = distances(8)
    pick = pick_different(d, 3)
    sums = {
        three: sum(d[i, j] for i, j in itertools.combinations(three, 2))
        for three in itertools.combinations(range(8), 3)
    }
    assert pick.exhaustive and pick.members == max(sums, key=sums.get)
    assert pick.mean_distance == pytest.approx(max(sums.values()) / 3)
    assert pick.least_distance == min(d[i, j] for i, j in itertools.combinations(pick.members, 2))


def test_among_equal_sums_the_smallest_distance_decides():
    d = np.array([[0, 8, 2, 4], [8, 0, 6, 4], [2, 6, 0, 4], [4, 4, 4, 0.0]])
    assert d[0, 1] + d[0, 2] + d[1, 2] == d[0, 1] + d[0, 3] + d[1, 3] == 16
    assert pick_different(d, 3).members == (0, 1, 3)


def test_beyond_what_can_be_tried_one_is_added_after_the_other(monkeypatch):
    d = distances(9, seed=2)
    best = pick_different(d, 4)
    monkeypatch.setattr(ensemble, "EXHAUSTIVE", 100)
    greedy = pick_different(d, 4)
    assert not greedy.exhaustive and len(set(greedy.members)) == 4
    assert best.mean_distance / 2 <= greedy.mean_distance <= best.mean_distance  # Hassin, Rubinstein & Tamir 1997
    farthest = np.unravel_index(d.argmax(), d.shape)
    assert set(map(int, farthest)) <= set(greedy.members)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_too_many_or_too_few_cannot_be_chosen(n):
    with pytest.raises(UsageError, match=f"{n} models cannot be chosen"):
        pick_different(distances(4), n)


def test_the_gain_is_that_of_averaged_probabilities():
    one, two = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([[0.3, 0.7], [0.8, 0.2], [0.4, 0.6]])
    labels = np.array([0, 0, 1])
    gain = measure_gain(np.stack([one, two]), labels)
    assert gain.accuracy.value == 1 and gain.accuracy_over_mean.value == pytest.approx(1 / 3)
    assert gain.accuracy_over_best.value == pytest.approx(1 / 3)
    losses = -np.log([[0.9, 0.4, 0.8], [0.3, 0.8, 0.6]])
    averaged = -np.log([0.6, 0.6, 0.7])
    assert gain.log_loss.value == pytest.approx(averaged.mean())
    assert gain.log_loss_below_mean.value == pytest.approx((losses.mean(0) - averaged).mean())
    assert gain.log_loss_below_best.value == pytest.approx(losses.mean(1).min() - averaged.mean())
    assert gain.log_loss_below_mean.stderr == pytest.approx(np.std(losses.mean(0) - averaged, ddof=1) / math.sqrt(3))


def test_averaging_a_model_with_itself_gains_nothing():
    told = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    gain = measure_gain(np.stack([told, told]), np.zeros(50, int))
    for part in (gain.accuracy_over_mean, gain.accuracy_over_best, gain.log_loss_below_mean, gain.log_loss_below_best):
        assert part.value == pytest.approx(0, abs=1e-12)


def test_averaging_never_raises_the_mean_log_loss():
    told = np.random.default_rng(1).dirichlet(np.ones(3), (4, 60))
    labels = np.random.default_rng(2).integers(0, 3, 60)
    assert measure_gain(told, labels).log_loss_below_mean.value > 0
    assert math.isnan(Interval.of(np.array([1.0])).stderr)


def test_classes_are_found_by_name_and_models_without_them_are_refused(tmp_path):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Picture
    from PIL import Image

    names = ["nine", "zero"]
    features = Features({"image": Picture(), "label": ClassLabel(names=names)})
    data = Dataset.from_dict({"image": [Image.new("RGB", (8, 8))] * 2, "label": [0, 1]}, features=features)
    images, model = load_images(data), load_classifier("demo:cnn")
    assert images.label_names == ("nine", "zero")
    logits = np.log(np.arange(1.0, 11))[None].repeat(2, 0)
    np.testing.assert_allclose(class_probabilities(logits, model, images), [[10 / 11, 1 / 11]] * 2)
    other = load_classifier("random:demo:cnn", labels=[f"thing {i}" for i in range(10)])
    with pytest.raises(UnfitError, match="does not have the classes"):
        class_probabilities(logits, other, images)


def test_members_are_good_enough_and_their_gain_is_on_the_labels(store):
    choice = choose_ensemble(
        ["demo:cnn", "demo:vit", "random:demo:cnn"], 2, "digits", k=24, protocol="standard", within=0.3
    )
    assert choice.members == ("demo:cnn", "demo:vit") and choice.labelled == 24
    images = load_images("digits", k=24)
    told = []
    for name in choice.members:
        model = load_classifier(name)
        with torch.no_grad():
            pixels = torch.stack([model.preprocessing.transform(image) for image in images])
            told.append(model.network(pixels).softmax(1).double().numpy())
    expected = hits_and_losses(np.stack(told).mean(0, keepdims=True), np.array(images.labels))
    assert choice.gain.accuracy.value == pytest.approx(expected[0].mean())
    assert choice.gain.log_loss.value == pytest.approx(expected[1].mean(), rel=1e-4)
    assert [one.within for one in choice.candidates] == [True, True, False]
    assert len(choice.matrix.models) == 2  # who is not good enough is not compared


@pytest.mark.slow
def test_too_few_good_models_are_told_with_the_margin_that_would_do(capsys):
    models = ["demo:cnn", "random:demo:cnn", "random:demo:vit"]
    words = [*models, "--pick", 3, "-i", "digits", "-k", 24, "-p", "standard"]
    code, _, err = run(capsys, "ensemble", *words, "--within", 0.01)
    lines = err.splitlines()[-3:]
    assert (
        code == 4 and lines[0].startswith("error: ") and "1 of 3 models are accurate enough, fewer than 3" in lines[0]
    )
    margin = lines[2].split("--within ")[1].split(",")[0]
    code, out, _ = run(capsys, "ensemble", *words, "--within", margin, "--json")
    assert code == 0 and json.loads(out)["members"] == models


@pytest.mark.slow
def test_without_labels_nothing_is_said_of_gain(tmp_path, capsys):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    words = ["ensemble", "demo:cnn", "demo:vit", "-i", tmp_path / "pictures", "-p", "standard"]
    code, out, _ = run(capsys, *words)
    assert code == 0 and "the gain is not measured" in out and "n/a" in out
    code, out, _ = run(capsys, *words, "--json")
    assert json.loads(out)["gain"] is None and json.loads(out)["members"] == ["demo:cnn", "demo:vit"]


def test_one_model_is_no_ensemble(capsys):
    code, _, err = run(capsys, "ensemble", "demo:cnn", "--pick", 2, "-i", "digits")
    assert code == 2 and len(err[err.index("error: ") :].splitlines()) == 3
