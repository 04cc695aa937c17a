"""The study of questions: copies are what they are called, and who knows the origin of each has every score."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_infodist.studies import questions as study
from hf_infodist.studies import run_study, zoo_map
from hf_infodist.studies.measures.asked import (
    CHEAP,
    FAMILIES,
    Found,
    best,
    common_layers,
    origin_found,
)
from hf_infodist.studies.measures.matrices import triplets
from hf_infodist.studies.measures.told import by_start, by_task
from hf_infodist.studies.networks import forest as _forest
from hf_infodist.studies.networks.births import HIDDEN
from hf_infodist.studies.networks.changes import pruned, quantised
from hf_infodist.studies.networks.zoo import ARCHITECTURES
from hf_infodist.studies.report.questions_plot import draw

MEASURES = [name for names in FAMILIES.values() for name in names]


def network():
    torch.manual_seed(0)
    return ARCHITECTURES["mlp"](tuple("abcd"))


def test_half_of_the_weights_of_each_layer_are_pruned_those_of_least_size():
    before, after = network(), pruned(network(), 0.5)
    for name, weight in before.named_parameters():
        other = after.get_parameter(name)
        if weight.ndim > 1:
            assert (other == 0).double().mean().item() == pytest.approx(0.5, abs=0.001)
            assert weight[other == 0].abs().max() <= weight[other != 0].abs().min()
        assert torch.equal(other[other != 0], weight[other != 0])


@pytest.mark.parametrize("bits", [2, 8])
def test_weights_of_few_bits_take_few_values_near_their_own(bits):
    before, after = network(), quantised(network(), bits)
    for name, weight in before.named_parameters():
        other, step = after.get_parameter(name), weight.abs().max() / (2 ** (bits - 1) - 1)
        if weight.ndim > 1:
            assert len(other.unique()) <= 2**bits - 1 and (other - weight).abs().max() <= step * 0.5001
        else:
            assert torch.equal(other, weight)


def test_every_copy_is_of_the_first_network_and_has_a_title():
    made = [birth for birth in HIDDEN if birth.parent]
    assert all(birth.parent.partition("-")[0] == "a" for birth in made) and HIDDEN[0].name == "a"
    assert [birth.name.partition("-")[2] for birth in made] == list(study.TITLES)
    assert sum(birth.how == "root" for birth in HIDDEN) == 5


def test_triplets_and_first_guesses_are_counted_and_what_is_missing_is_left_out():
    rows = [(1.0, [2.0, 3.0]), (2.0, [1.0, 2.0]), (np.nan, [1.0, 2.0])]
    assert origin_found(rows) == Found(share=2.5 / 4, triplets=4, first=1, copies=2, ratio=(0.4 + 4 / 3) / 2)
    assert origin_found(rows[2:]) is None


def distances(known, seed=0):
    """Distances by which a measure finds each origin if it is known, and else by chance."""
    values = np.random.default_rng(seed).uniform(1, 2, (len(HIDDEN), len(HIDDEN)))
    if known:
        values[:, 0] = 0.5
    return {"knows": values, "absent": np.full_like(values, np.nan)}


def test_who_knows_the_origin_finds_it_and_who_does_not_is_at_chance():
    found = study.hidden([distances(True)] * 3)
    assert list(found) == list(study.TITLES.values())
    assert all(row["absent"] is None for row in found.values())
    knows = [row["knows"] for row in found.values()]
    assert all((one.share, one.triplets, one.first, one.copies) == (1, 12, 3, 3) for one in knows)
    assert all(0.25 < one.ratio < 0.5 for one in knows)
    guessed = study.hidden([distances(False, seed) for seed in range(40)])
    assert np.mean([row["knows"].share for row in guessed.values()]) == pytest.approx(0.5, abs=0.1)


def test_common_layers_are_compared_where_heads_differ_and_nothing_else_is_left():
    a, b = ({"x": torch.ones(2, 2), "head": torch.ones(n, 2), "bias": torch.ones(2)} for n in (3, 4))
    assert common_layers(a, b) == (0, pytest.approx(0))
    assert common_layers(a, {**b, "x": -torch.ones(2, 2)}) == (4, pytest.approx(2))
    assert np.isnan(common_layers({"x": torch.ones(2, 2)}, {"y": torch.ones(2, 2)})).all()


def test_the_best_of_a_family_is_named_and_none_where_none_applies():
    scores = {name: 0.1 * place for place, name in enumerate(FAMILIES["outputs"])}
    assert best(scores, CHEAP["outputs"]) == (CHEAP["outputs"][-1], pytest.approx(0.3))
    assert best({**scores, "parameter/L2": None, "parameter/cosine": np.nan}, CHEAP["weights"]) is None


def map_of(folder, study_name, names, nats):
    (folder / study_name).mkdir()
    matrix = {"models": [{"id": name} for name in names], "nats": nats.tolist()}
    far = {"representation/RSA": (-nats).tolist(), "output/disagreement": [[None] * len(names)] * len(names)}
    (folder / study_name / f"{study_name}.json").write_text(json.dumps({"matrix": matrix, "baselines": far}))


def test_figures_of_other_studies_are_read_and_where_there_are_none_nothing_is_told(tmp_path):
    assert by_task(tmp_path) == {} and by_start(tmp_path) == {}
    tasks = np.array([one.task for one in zoo_map.ZOO])
    near = 1.0 + (tasks[:, None] != tasks)
    repeats = [  # the second time RSA is right, and disagreement says nothing
        {"infodist": near, "representation/RSA": -near, "output/disagreement": near},
        {"infodist": near, "representation/RSA": near, "output/disagreement": np.full_like(near, np.nan)},
    ]
    answers = [{"triplets": triplets(one, zoo_map.questions(zoo_map.ZOO))} for one in repeats]
    (tmp_path / "zoo_map").mkdir()
    (tmp_path / "zoo_map" / "zoo_map.json").write_text(json.dumps({"repeats": answers}))
    found = by_task(tmp_path)
    assert len(found) == 2
    for row in found.values():
        assert row["infodist"].value == row["infodist"].low == 1 and row["infodist"].n == 2
        assert row["representation/RSA"].value == 0.5 and row["representation/RSA"].high > 1
        assert "output/disagreement" not in row


def test_starts_that_are_nearer_to_the_target_and_learn_better_have_a_tau_of_one(tmp_path):
    names = ["x-s0", "x-s1", *(f"start-s{number}" for number in range(6))]
    far = abs(np.subtract.outer(np.maximum(np.arange(8) - 1, 0), np.maximum(np.arange(8) - 1, 0))).astype(float)
    map_of(tmp_path, "datasets_map", names, far)
    (tmp_path / "transfer").mkdir()
    reached = {name: {"loss": 0.1 * place} for place, name in enumerate(names[2:])}
    truth = {"200": {"x": {**reached, "random-s0": {"loss": 9.0}}}}
    (tmp_path / "transfer" / "transfer.json").write_text(json.dumps({"truth": truth}))
    (row,) = by_start(tmp_path).values()
    assert row["infodist"].value == row["L'(it | other)"].value == 1 and row["representation/RSA"].value == -1
    assert "output/disagreement" not in row


def test_texts_have_a_row_for_each_question_and_for_each_measure(tmp_path):
    scores = {"a": dict.fromkeys(MEASURES, 0.5), "b": {"infodist": 0.25, "output/KL(A‖B)": None}}
    rows = [line.split() for line in study.compact(scores).splitlines()]
    assert rows[2][:3] == ["b", "0.25", "n/a"] and rows[1][:4] == ["a", "0.50", "0.50", "0.50"]
    assert len(study.everything(scores).splitlines()) == 1 + len(MEASURES)
    draw(scores, tmp_path / "picture.png")
    assert 0 < (tmp_path / "picture.png").stat().st_size < 200_000


@pytest.mark.slow
def test_the_study_runs_on_what_is_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_forest, "FASHION", tmp_path / "none")  # the digits are everywhere
    few = [birth for birth in HIDDEN if birth.how in ("root", "neurons", "relabelled", "distilled")]
    births = tuple(replace(birth, architecture="mlp") for birth in few if birth.how != "neurons")
    monkeypatch.setattr(study, "HIDDEN", births)
    words = ["--work", str(tmp_path / "work"), "--seeds", "1", "-k", "32", "--train", "200"]
    run_study("questions", [*words, "--output", str(tmp_path / "out")])
    figures = json.loads((tmp_path / "out" / "questions.json").read_text())
    assert figures["seeds"] == 1 and len(figures["accuracy"][0]) == len(births)
    assert figures["scores"]["trained on, coarser question"]["parameter/L2"] is None
    assert (tmp_path / "out" / "questions.png").exists() and "best of features" in capsys.readouterr().out
