"""The study `transfer`: what choices are worth, what fine-tuning keeps, and a whole small run."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

from hf_infodist.cli import main
from hf_infodist.studies import transfer
from hf_infodist.studies.measures.selection import chances, judge, over_targets
from hf_infodist.studies.networks import finetune, starts
from hf_infodist.studies.networks.data import shapes
from hf_infodist.studies.networks.finetune import Reached, Run, best_rate, reached
from hf_infodist.studies.networks.zoo import ARCHITECTURES, Checkpoint
from hf_infodist.studies.start_errors import covered

TRUTH = np.array([0.1, 0.5, 0.3, 0.9, 0.7])


def test_the_right_order_has_no_regret_and_the_reverse_has_all():
    assert judge(TRUTH, TRUTH) == (pytest.approx(1), 0, 1)
    tau, regret, recall = judge(-TRUTH, TRUTH)
    assert tau == pytest.approx(-1) and regret == pytest.approx(0.8) and recall == pytest.approx(1 / 3)


def test_of_tied_scores_any_is_chosen():
    scores = np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    assert judge(np.zeros(5), TRUTH) == (0, pytest.approx(0.9 - TRUTH.mean()), pytest.approx(3 / 5))
    regrets, recalls = [], []
    for order in itertools.permutations(range(5)):
        chosen = sorted(order, key=lambda i: -scores[i])
        regrets.append(0.9 - TRUTH[chosen[0]])
        recalls.append(len({1, 3, 4} & set(chosen[:3])) / 3)
    _, regret, recall = judge(scores, TRUTH)
    assert regret == pytest.approx(np.mean(regrets)) and recall == pytest.approx(np.mean(recalls))
    assert chances(scores, 2).tolist() == pytest.approx([0, 2 / 3, 2 / 3, 2 / 3, 0])


def test_the_interval_covers_the_mean_and_narrows_with_targets():
    values = np.random.default_rng(0).normal(size=100)
    few, many = over_targets(values[:8]), over_targets(values)
    assert few.low < few.value < few.high and many.high - many.low < few.high - few.low
    assert np.isnan(over_targets(values[:1]).low)


def test_the_rate_is_chosen_by_validation_alone():
    slow, fast = [Reached(1.0, 3.0, 0.1), Reached(1.2, 3.2, 0.3)], [Reached(2.0, 0.1, 0.9), Reached(0.6, 0.1, 0.9)]
    assert best_rate([slow, fast]) == Reached(pytest.approx(1.1), pytest.approx(3.1), pytest.approx(0.2))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(finetune, "EPOCHS", {20: 1, 40: 1})
    monkeypatch.setattr(finetune, "BATCH", {20: 10, 40: 10})
    monkeypatch.setattr(finetune, "VALIDATION", 10)
    monkeypatch.setattr(finetune, "TEST", 20)


def test_fine_tuning_keeps_all_but_the_head_leaves_its_start_alone_and_is_done_once(small, tmp_path, monkeypatch):
    target, start = shapes("form", 80), Checkpoint("a", "resnet10", "shapes-x")
    torch.manual_seed(0)
    network = ARCHITECTURES["resnet10"](tuple("abcdefgh")).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = []

    def fit(module, pixels, labels, recipe):
        given.append(({name: one.clone() for name, one in module.state_dict().items()}, len(labels)))
        nn.init.zeros_(module.get_classifier().weight)
        nn.init.zeros_(module.get_classifier().bias)

    monkeypatch.setattr(finetune, "fit", fit)
    run = Run(start, 40, 1e-3, 0)
    result = reached(run, network, target, tmp_path)
    ((weights, count),) = given
    assert count == 40 and weights["fc.weight"].shape[0] == 3 != before["fc.weight"].shape[0]
    assert all(torch.equal(one, before[name]) for name, one in weights.items() if not name.startswith("fc."))
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert result.loss == pytest.approx(np.log(3)) == result.validation_loss
    assert reached(run, network, target, tmp_path) == result and len(given) == 1


@pytest.mark.slow
def test_the_study_runs_and_repeats_itself(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "store"))
    monkeypatch.setattr(starts, "SOURCES", ("digits", "shapes-x", "shapes-form"))
    monkeypatch.setattr(transfer, "LABELS", (20, 40))
    monkeypatch.chdir(tmp_path)
    words = ["study", "transfer", "--work", "work", "--target", "shapes-form", "--target", "shapes-x"]
    words += ["--steps", "2", "--rate", "1e-3", "--output", "out"]
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"^0$"):
            main(words)
    first, again = np.array_split(capsys.readouterr().out.splitlines(), 2)
    assert list(first) == list(again) and "ours, all labels" in "\n".join(first)
    figures = json.loads((tmp_path / "out" / "transfer.json").read_text())
    assert figures["truth"]["40"]["shapes-x"].keys() == {
        f"{source}-s{seed}" for source in ("digits", "shapes-form", "random") for seed in (0, 1)
    }
    assert str(tmp_path) not in json.dumps(figures)
    assert (tmp_path / "out" / "transfer.png").stat().st_size > 5000


def test_errors_that_hold_cover_what_they_promise_and_those_that_leave_out_a_noise_do_not():
    rng = np.random.default_rng(0)
    prices = rng.exponential(size=(40, 6, 200)) + rng.exponential(size=(40, 1, 200))  # labels hard for all
    right = covered(prices)
    assert right["pairs"] == 15 and 0.6 < right["within one error"] < 0.75 and 0.92 < right["within two errors"] < 0.98
    assert right["best in the mean is tied or best"] > 0.9 and right["candidates tied or best"] > 5
    apart = covered(prices - 0.3 * np.eye(6)[0][:, None])
    assert apart["best in the mean is tied or best"] == 1 and apart["candidates tied or best"] < 2
    assert covered(prices + 0.2 * rng.normal(size=(40, 6, 1)))["within two errors"] < 0.6
