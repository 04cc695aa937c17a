"""The studies of invariance and faithfulness: their arithmetic by hand, and both from data to figures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import SmallNet, noise_images, transform

from hf_infodist.coding import kernels
from hf_infodist.errors import NotFoundError
from hf_infodist.images.sample import load_images
from hf_infodist.models.load import load_classifier
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies import faithfulness, invariance, run_study
from hf_infodist.studies.measures import changed_by
from hf_infodist.studies.measures.compare import MEASURES, SIMILARITIES, compare, compare_all
from hf_infodist.studies.networks import data
from hf_infodist.studies.networks import setting as _setting
from hf_infodist.studies.networks.resnet import Architecture

CKA = "representation/linear CKA"


def seed_of_invariance(**values):
    """Return one seed: two networks of a task, an unmodified pair, two scalings and a change of architecture."""
    names = [("same task", ""), ("unmodified", ""), ("scaling", "0.5"), ("scaling", "2"), ("architecture", "width 8")]
    everything = {name: [0.1, 0.8, 0.8, 0.8, 0.8] for name in MEASURES} | values
    rows = [
        {"scenario": scenario, "coefficient": c, "values": {name: row[i] for name, row in everything.items()}}
        for i, (scenario, c) in enumerate(names)
    ]
    return {"same task": rows[0], "unmodified": rows[1], "rows": rows[2:]}


def test_the_relative_change_is_that_of_the_papers_table():
    run = seed_of_invariance(d_p=[40.0, 200.0, 150.0, 220.0, 300.0], **{CKA: [0.5, -0.5, -0.25, -1.0, None]})
    assert changed_by.relative_changes(run, "d_p") == {"scaling": pytest.approx(0.175), "architecture": 0.5}
    assert changed_by.relative_changes(run, CKA) == {"scaling": 0.75}
    assert changed_by.relative_changes(run, "output/disagreement") == {"scaling": 0.0, "architecture": 0.0}
    assert changed_by.relative_changes(run, "d_p", "contrast") == {"scaling": 35 / 160, "architecture": 100 / 160}
    assert changed_by.relative_changes(run, CKA, "contrast") == {"scaling": 0.375}


def test_the_table_has_mean_and_spread_over_seeds_and_says_where_a_measure_does_not_apply():
    runs = [
        seed_of_invariance(d_p=[50.0, 100.0, 90.0, 110.0, 130.0], **{CKA: [0.9, 0.5, 0.4, 0.5, None]}),
        seed_of_invariance(d_p=[50.0, 100.0, 130.0, 70.0, 110.0], **{CKA: [0.9, 0.5, 0.5, 0.5, None]}),
    ]
    rows = changed_by.table(runs)
    assert rows["d_p"]["scaling"] == {"mean": 0.2, "sd": pytest.approx(0.141421), "seeds": 2}
    assert rows["d_p"]["mean"]["mean"] == 0.2 and rows["d_p"]["mean"]["sd"] < 1e-9  # of .1 and .3, of .3 and .1
    assert rows["d_p"]["seeds first"]["mean"] == 0.15  # of 110 and 90, of 120
    assert rows["d_p"]["of contrast"]["mean"] == 0.4
    assert rows[CKA]["mean"]["mean"] == 0.05 and "architecture" not in rows[CKA]
    assert rows[CKA]["of contrast"]["mean"] == 0.0625
    text = changed_by.as_text(rows)
    assert "n/a" in text and text.index("linear CKA") < text.index("d_p")


def seed_of_faithfulness(scenario, accuracies, **values):
    """Return one seed of one scenario."""
    everything = {name: [0.5] * len(accuracies) for name in MEASURES} | values
    rows = [
        {"place": str(i), "accuracy": accuracy, "values": {name: row[i] for name, row in everything.items()}}
        for i, accuracy in enumerate(accuracies)
    ]
    return {"scenarios": {scenario: rows}}


def test_similarities_are_asked_as_distances():
    run = seed_of_faithfulness("two tasks", [0.1, 0.5, 0.9], **{"d_p": [3.0, 2.0, 0.0], CKA: [0.2, 0.6, 1.0]})
    curves = faithfulness.curves([run], "two tasks")
    assert curves["d_p"].tolist() == [[3.0, 2.0, 0.0]]
    np.testing.assert_allclose(curves[CKA], [[0.8, 0.4, 0.0]])
    assert CKA in SIMILARITIES and "d_p" not in SIMILARITIES


@pytest.mark.parametrize(
    ("scenario", "accuracies", "expected"),
    [
        ("two tasks", [0.1, 0.05, 0.5, 0.9], [-1, -1, -1]),
        ("two starts", [0.9, 0.5, 0.2, 0.9], [1, 1, -1]),
        ("to the initial network", [0.1, 0.5, 0.7, 0.8], [1, 1, 1]),
        ("to the final network", [0.1, 0.5, 0.7, 0.8], [-1, -1, -1]),
    ],
)
def test_where_a_distance_should_rise(scenario, accuracies, expected):
    run = seed_of_faithfulness(scenario, accuracies)
    assert faithfulness.directions([run], scenario).tolist() == expected


def test_trend_is_the_share_of_right_steps():
    falling = np.array([-1.0, -1.0, -1.0])
    assert faithfulness.right_steps(np.array([5.0, 4.0, 2.0, 0.0]), falling) == 1
    assert faithfulness.right_steps(np.array([5.0, 6.0, 2.0, 2.0]), falling) == pytest.approx(1 / 3)  # a tie is wrong


def test_identification_is_by_the_nearest_mean_of_the_other_seeds():
    clear = np.array([[1.0, 2.0, 3.0], [1.1, 2.2, 3.3], [0.9, 1.8, 2.7]])
    assert faithfulness.identified(clear) == 1
    shifted = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]])  # each value is the other seed's neighbour
    assert faithfulness.identified(shifted) == pytest.approx(2 / 6)  # but the outer ones
    flat = np.ones((3, 4))
    assert faithfulness.identified(flat) == 0.25


@pytest.mark.slow
def test_one_network_against_many_costs_one_factorisation_more_than_there_are(monkeypatch, tmp_path):
    nets = [load_classifier(SmallNet(seed=seed), transform=transform) for seed in range(3)]
    images, protocol, made = load_images(noise_images(40), k=40), PROTOCOLS["standard"], []

    class Counted(kernels.Factors):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(kernels, "Factors", Counted)
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "together"))
    together = compare_all(nets[:2], nets[2], images, protocol)
    assert len(made) == 3
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "alone"))
    assert together == [compare(net, nets[2], images, protocol) for net in nets[:2]]
    assert len(made) == 3 + 4 and together[0] != together[1]


def test_paper_scale_is_that_of_the_paper(monkeypatch):
    setting = _setting.Options(Path("nowhere"), scale="paper").setting()
    assert setting.k == 10_000 and setting.network == Architecture() and setting.protocol == "paper"
    assert setting.network.drawn(200, 0).fc.out_features == 200
    asked = []

    def load_dataset(name, split):
        import datasets
        from PIL import Image

        asked.append((name, split))
        pictures = [Image.new("RGB", (64, 64), (label, 0, 0)) for label in range(4)]
        columns = {"image": pictures, "label": list(range(4))}
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(4)})
        return datasets.Dataset.from_dict(columns, features=features)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    train, test = _setting.load_data(setting)
    assert asked == [("zh-plus/tiny-imagenet", "train"), ("zh-plus/tiny-imagenet", "valid")]
    assert train.images.shape == (4, 64, 64, 3) and train.images[:, 0, 0, 0].tolist() == train.labels.tolist()
    assert [len(task.classes) for task in _setting.halves(test)] == [2, 2]
    pixels, _ = _setting.tensors(test)
    seen = _setting.transform(_setting.Input(64))(_setting.Image.fromarray(test.images[0]))
    np.testing.assert_allclose(seen, pixels[0], atol=1e-6)  # trained on what is seen when measured


def test_digits_stand_in_where_fashion_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "FASHION", tmp_path / "missing")
    assert _setting.Options(Path("w")).setting().data == "digits"
    with pytest.raises(NotFoundError, match="apt install dataset-fashion-mnist"):
        run_study("faithfulness", ["--work", str(tmp_path), "--data", "fashion"])


@pytest.fixture
def few_places(monkeypatch):
    """One coefficient of each kind: the other ones are no other code."""
    few = {"noise": (0.05,), "attack": (0.001,), "depths": (2,), "widths": (8,), "progress": 2}
    monkeypatch.setitem(_setting.SETTINGS, "small", replace(_setting.SETTINGS["small"], **few))
    monkeypatch.setitem(data.TASKS, "shapes-form", lambda: data.shapes("form", 200))
    monkeypatch.setattr(invariance, "FACTORS", (3.0,))
    monkeypatch.setattr(invariance, "SHARES", (1.0,))
    monkeypatch.setattr(faithfulness, "SHARES", (0.0, 0.5, 1.0))


SMALL = ["--data", "digits", "-k", "24", "-p", "standard", "--train", "300", "--epochs", "2"]


@pytest.mark.slow
def test_invariance_runs_from_data_to_figures(tmp_path, capsys, few_places):
    run_study("invariance", ["--work", str(tmp_path), *SMALL, "--seeds", "1", "--output", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert "batchnorm" in shown and "plain" in shown and "d_p" in shown
    fields = json.loads((tmp_path / "out" / "invariance.json").read_text())
    assert (tmp_path / "out" / "figure1-batchnorm.png").stat().st_size < 400_000
    for kind, scenarios in (("batchnorm", 6), ("plain", 4)):
        for run in fields["runs"][kind]:
            moved = {name: [] for name in changed_by.SCENARIOS}
            for row in run["rows"]:
                moved[row["scenario"]].append(row["largest_change_of_logits"])
            assert max(moved["scaling"] + moved["neuron swapping"]) < 1e-3 < min(moved["adversarial perturbation"])
        table = fields["relative_change"][kind]
        assert len(table["d_p"]) == scenarios + 3 and table["output/KL(A‖B)"]["scaling"]["mean"] < 1e-4
        assert table["representation/L2"]["neuron swapping"]["mean"] > 0.01
        assert "architecture" not in table["parameter/L2"]
    words = ["--work", str(tmp_path), *SMALL, "--seeds", "1", "--output", str(tmp_path / "plain")]
    run_study("invariance", [*words, "--network", "plain"])
    alone = json.loads((tmp_path / "plain" / "invariance.json").read_text())["runs"]
    assert alone.keys() == {"plain"} and alone["plain"] == fields["runs"]["plain"]


@pytest.mark.slow
def test_faithfulness_runs_from_data_to_figures(tmp_path, few_places):
    run_study("faithfulness", ["--work", str(tmp_path), *SMALL, "--seeds", "2", "--output", str(tmp_path / "out")])
    fields = json.loads((tmp_path / "out" / "faithfulness.json").read_text())
    for number in (2, 3, 8, 9):
        assert (tmp_path / "out" / f"figure{number}.png").stat().st_size < 400_000
    for run in fields["runs"]:
        for scenario, itself in zip(faithfulness.SCENARIOS, (-1, -1, 0, -1), strict=True):
            nats = [row["values"]["d_p"] for row in run["scenarios"][scenario]]
            assert min(nats) == nats[itself] < 1e-3 < max(nats)
    assert fields["answers"]["two tasks"]["parameter/L2"]["right_steps"] == 1
