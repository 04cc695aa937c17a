"""The search for hyper-parameters: what it may propose, when it stops a trial, and that it can go on."""

import json

import optuna
import pytest
from networks import SmallNet, noise_images, transform

from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution, prepare_pair
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies import run_study
from hf_infodist.studies import search as study
from hf_infodist.studies.search import STARTS, propose, search

K = 96


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    nets = (load_classifier(SmallNet(seed=seed), transform=transform) for seed in (0, 1))
    return prepare_pair(*nets, noise_images(K), execution=Execution(home=tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def result(pair):
    return search(pair, trials=12)


def nats(pair, protocol, direction="b_given_a"):
    return train_codelength(pair, direction, protocol).nats


@pytest.mark.parametrize("direction", ["b_given_a", "a_given_b"])
def test_the_best_protocol_costs_what_the_search_says(pair, direction):
    found = search(pair, direction, trials=4)
    assert found.nats == nats(pair, found.protocol, direction)
    assert found.nats != nats(pair, found.protocol, {"b_given_a": "a_given_b"}.get(direction, "b_given_a"))


def test_the_best_is_the_least_of_the_trials_and_no_worse_than_any_preset(pair, result):
    assert result.nats == min(trial.nats for trial in result.trials if trial.outcome == "complete")
    presets = [nats(pair, PROTOCOLS[name]) for name in STARTS]
    assert [trial.nats for trial in result.trials[: len(presets)]] == presets
    assert result.nats <= min(presets)


def test_a_preset_is_drawn_from_its_own_parameters():
    for name in STARTS:
        protocol = propose(optuna.trial.FixedTrial(study._params(PROTOCOLS[name])))
        assert {**vars(protocol), "name": name} == vars(PROTOCOLS[name])


def test_one_seed_one_search(pair, result):
    assert search(pair, trials=12).trials == result.trials
    assert search(pair, trials=12, seed=1).trials != result.trials


def test_only_trials_that_were_not_stopped_price_all_images(result):
    assert {trial.outcome for trial in result.trials} == {"complete", "pruned"}
    for trial in result.trials:
        assert (trial.images == K) == (trial.outcome == "complete")
        assert trial.images >= K // 4


def test_gradient_images_are_those_that_were_spent(pair, monkeypatch):
    learn, spent = FineTuned.learn, []

    def counted(self, *block):
        spent.append(learn(self, *block))
        return spent[-1]

    monkeypatch.setattr(FineTuned, "learn", counted)
    found = search(pair, trials=8)
    assert {"complete", "pruned"} == {trial.outcome for trial in found.trials}
    assert found.gradient_images == sum(spent)


@pytest.mark.parametrize("ends", [(16, 48, 96), (96,), (10, 24, 50, 96), tuple(range(1, 97))])
def test_trials_are_compared_at_the_same_images_whatever_their_blocks(ends):
    class Trial:
        def __init__(self):
            self.reported = {}

        def report(self, nats, images):
            self.reported[images] = nats

        def should_prune(self):
            return False

    trial = Trial()
    watch = study._Watch(trial, 96)
    for end in ends:
        watch(end, 0.5 * end)
    assert trial.reported == pytest.approx({24: 12, 48: 24})
    assert (watch.images, watch.nats) == (96, 48)


def test_the_worse_half_stops_and_a_start_is_compared_but_spared():
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=24, reduction_factor=2)
    trials = optuna.create_study(pruner=pruner)

    def stops_at(slope, spared=False):
        watch = study._Watch(trials.ask(), 96, spared=spared)
        try:
            for end in range(8, 97, 8):
                watch(end, slope * end)
        except optuna.TrialPruned:
            pass
        return watch.images

    assert [stops_at(slope, spared=True) for slope in (3, 1, 2, 4)] == [96] * 4
    assert [stops_at(slope) for slope in (5, 0.5, 2.5, 0.9)] == [24, 96, 24, 96]


@pytest.mark.parametrize("budget", [1, 3.5])
def test_nothing_beyond_the_budget_is_run(pair, budget):
    found = search(pair, trials=5, budget=budget)
    assert len(found.trials) == 5
    assert all(trial.gradient_images <= budget * K for trial in found.trials)
    assert found.protocol.gradient_images(K) <= budget * K


@pytest.mark.parametrize("setting", [{"budget": 0.5}, {"trials": 0}])
def test_a_search_for_nothing_is_refused(pair, setting):
    with pytest.raises(UsageError, match="nothing to search"):
        search(pair, **setting)


def test_a_protocol_that_diverges_is_left_behind(pair, monkeypatch):
    def fragile(*ends, **options):
        if ends[-1].learners[0].lr > 9e-4:
            raise UnfitError("it", "cannot", "learn")
        return train_codelength(*ends, **options)

    monkeypatch.setattr(study, "train_codelength", fragile)
    found = search(pair, trials=8)
    assert len(found.trials) == 8 and found.protocol.learners[0].lr <= 9e-4
    for trial in found.trials:
        assert (trial.outcome == "diverged") == (trial.params["lr"] > 9e-4)


def test_when_every_protocol_diverges_the_pair_is_unfit(pair, monkeypatch):
    def broken(*ends, **options):
        raise UnfitError("it", "cannot", "learn")

    monkeypatch.setattr(study, "train_codelength", broken)
    with pytest.raises(UnfitError, match="all 3 protocols"):
        search(pair, trials=3)


def test_a_search_goes_on_from_its_storage(pair, tmp_path, monkeypatch):
    storage, runs = f"sqlite:///{tmp_path / 'search.db'}", []

    def counted(*ends, **options):
        runs.append(ends)
        return train_codelength(*ends, **options)

    monkeypatch.setattr(study, "train_codelength", counted)
    first = search(pair, trials=4, storage=storage)
    longer = search(pair, trials=6, storage=storage)
    assert longer.trials[:4] == first.trials and len(longer.trials) == len(runs) == 6
    assert search(pair, trials=6, storage=storage) == longer and len(runs) == 6
    assert len(search(pair, "a_given_b", trials=1, storage=storage).trials) == 1  # a study of its own


def test_the_command_prints_one_object(capsys):
    words = ["demo:cnn", "demo:vit", "--images", "digits", "-k", "64", "--trials", "3"]
    run_study("search", [*words, "--json"])
    out = capsys.readouterr().out
    found = json.loads(out)
    assert out.count("\n") == 1 and found["nats"] > 0 and len(found["trials"]) == 3
    assert found["gradient_images"] == sum(trial["gradient_images"] for trial in found["trials"])
    run_study("search", words)
    assert f"{found['nats']:.1f} nats" in capsys.readouterr().out
