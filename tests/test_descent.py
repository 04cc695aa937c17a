"""The study of lineage: forests are what they are said to be, and scores are 1 for who knows the truth."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_infodist.analysis.lineage import find_copies
from hf_infodist.studies import lineage as study
from hf_infodist.studies import run_study
from hf_infodist.studies.measures import descent
from hf_infodist.studies.networks import forest as _forest
from hf_infodist.studies.networks.changes import swapped
from hf_infodist.studies.networks.data import Task
from hf_infodist.studies.networks.forest import FOREST, SCALES, Birth, task_of

NAMES = [birth.name for birth in FOREST]


def truth():
    """Steps along the forest; down an edge is a little cheaper than up."""
    steps = descent.path_lengths(FOREST)
    down = np.array([[0.9 if a.parent == b.name else 1.0 for b in FOREST] for a in FOREST])
    return steps * down


def share(answers):
    return sum(answer.right for answer in answers) / len(answers)


def test_steps_along_the_forest():
    steps = descent.path_lengths(FOREST)
    at = {name: i for i, name in enumerate(NAMES)}
    for a, b, expected in (
        ("a", "a-half", 1),
        ("a-half-noisy", "a", 2),
        ("a-half-noisy", "a-distilled", 3),
        ("b-noisy", "b-noisy-neurons", 0),
        ("b-noisy-half", "b-noisy-neurons", 1),
        ("a", "b", 4),
        ("a-half", "b-labels", 6),
    ):
        assert steps[at[a], at[b]] == steps[at[b], at[a]] == expected


def test_who_knows_the_truth_has_every_score():
    values = truth()
    assert share(descent.parent_answers(values, FOREST)) == share(descent.direction_answers(values, FOREST)) == 1
    assert share(descent.central_answers(values, FOREST)) == 1
    assert len(descent.parent_answers(values, FOREST)) == 8 and len(descent.direction_answers(values, FOREST)) == 6
    assert {name: value for name, (value, _) in descent.triplets(values, FOREST).items()} == {
        "same tree": 1.0,
        "one step": 1.0,
    }
    assert descent.tree_correlation(values, FOREST) > 0.7  # no ultrametric has exactly these steps
    copies = find_copies(np.maximum(values, values.T), 0)
    for rule in (descent.nearest_central, descent.arborescence):
        assert share(descent.rule_answers(rule(values, copies, 0.8), copies, FOREST)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_no_forest_is_cheaper_than_the_arborescence(seed):
    n, part = 5, 0.6
    nats = np.random.default_rng(seed).uniform(1, 100, (n, n))
    usual = [np.median(np.delete(nats[i], i)) for i in range(n)]

    def cost(parents):
        return sum(part * usual[i] if j is None else nats[i, j] for i, j in enumerate(parents))

    def reaches_a_root(parents, i):
        seen = set()
        while i is not None and i not in seen:
            seen.add(i)
            i = parents[i]
        return i is None

    choices = itertools.product(*([None, *(j for j in range(n) if j != i)] for i in range(n)))
    forests = [parents for parents in choices if all(reaches_a_root(parents, i) for i in range(n))]
    found = descent.arborescence(nats, [(i,) for i in range(n)], part)
    assert tuple(found) in forests and cost(found) == pytest.approx(min(map(cost, forests)))


def test_who_says_the_opposite_has_none():
    values = truth().max() + 1 - truth()
    np.fill_diagonal(values, 0)
    assert share(descent.parent_answers(values, FOREST)) == share(descent.direction_answers(values, FOREST)) == 0
    assert max(value for value, _ in descent.triplets(values, FOREST).values()) < 0.1
    assert descent.tree_correlation(values, FOREST) < 0


def test_noise_has_what_chance_has():
    rng = np.random.default_rng(0)
    runs = [rng.uniform(1, 2, (10, 10)) for _ in range(100)]
    assert 0.07 < np.mean([share(descent.parent_answers(v, FOREST)) for v in runs]) < 0.19
    assert 0.44 < np.mean([share(descent.direction_answers(v, FOREST)) for v in runs]) < 0.56
    assert 0.47 < np.mean([descent.triplets(v, FOREST)["same tree"][0] for v in runs]) < 0.53
    assert abs(np.mean([descent.tree_correlation(v, FOREST) for v in runs])) < 0.06


def test_what_does_not_apply_is_no_answer():
    values = np.full((10, 10), np.nan)
    assert share(descent.parent_answers(values, FOREST)) == 0 and not descent.direction_answers(values, FOREST)
    assert np.isnan(descent.tree_correlation(values, FOREST)) and not descent.central_answers(values, FOREST)


def test_the_parent_of_an_original_is_not_its_copy():
    values = truth()
    copy, original = NAMES.index("b-noisy-neurons"), NAMES.index("b-noisy")
    answers = dict(zip([b.name for b in FOREST if b.parent], descent.parent_answers(values, FOREST), strict=True))
    assert values[original, copy] == 0 and answers["b-noisy"].right and answers["b-noisy-neurons"].right


def pictures(count=400):
    rng = np.random.default_rng(0)
    return Task("t", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 4, count), tuple("abcd"))


def test_tasks_are_what_they_are_called():
    task = pictures()
    half, noisy, asked = (task_of(how, task, 1) for how in ("half", "noisy", "relabelled"))
    assert len(half.labels) == 200 and (half.images[0] == task.images).all((1, 2)).any()
    assert 0.15 < (noisy.labels != task.labels).mean() < 0.3  # a quarter of three in ten stays by chance
    assert asked.classes == ("a or b", "c or d") and (asked.labels == task.labels // 2).all()
    assert task_of("root", task, 1) is task
    assert not np.array_equal(task_of("half", task, 2).images, half.images)


@pytest.mark.parametrize("name", SCALES)
def test_neurons_in_another_order_compute_the_same(name):
    torch.manual_seed(0)
    module = SCALES[name].architecture(tuple("abcd")).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1), part.running_var.uniform_(0.5, 2), part.weight.data.uniform_(0.5, 2)
    x = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = module(x)
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    other = swapped(module, 1.0, 1)
    with torch.inference_mode():
        torch.testing.assert_close(other(x), before, rtol=1e-4, atol=1e-4)
    moved = [
        key for key, value in other.state_dict().items() if value.ndim > 1 and not torch.equal(value, weights[key])
    ]
    assert len(moved) == sum(value.ndim > 1 for value in weights.values())


def test_the_network_of_the_paper_has_its_depth_and_size():
    module = SCALES["paper"].architecture(tuple(map(str, range(200))))
    layers = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)]
    weights = sum(parameter.numel() for parameter in module.parameters())
    assert len(layers) - 2 == 56 and 0.85e6 < weights < 0.88e6  # two of them project between stages
    assert SCALES["paper"].k == 10_000


@pytest.mark.slow
def test_a_forest_is_grown_measured_and_drawn(tmp_path, capsys, monkeypatch):
    few = tuple(birth for birth in FOREST if birth.name in ("a", "a-half", "a-relabelled", "b", "b-labels"))
    births = (*few, Birth("b-neurons", "b", "neurons"), Birth("b-distilled", "b", "distilled"))
    monkeypatch.setattr(study, "FOREST", births)
    monkeypatch.setattr(_forest, "FASHION", tmp_path / "none")  # the digits are everywhere
    small = replace(SCALES["small"], root=(2, 5e-3), train=400, k=32)
    monkeypatch.setattr(study, "SCALES", {"small": small})
    words = ["--work", str(tmp_path / "work"), "--seed", "0", "--output", str(tmp_path / "out")]
    run_study("lineage", words)
    figures = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert (tmp_path / "out" / "lineage.png").stat().st_size < 300_000
    (forest,) = figures["samples"]["test"]["forests"]
    nats = np.array(forest["nats"])
    names = [birth.name for birth in births]
    original, copy = names.index("b"), names.index("b-neurons")
    assert max(nats[original, copy], nats[copy, original]) < 0.1 < np.sort(nats[original])[2]
    assert figures["samples"]["strange"]["summary"]["d_p"]["parent"]["count"] == 5
    l2 = np.array([[np.nan if v is None else v for v in row] for row in forest["baselines"]["parameter/L2"]])
    assert l2[original, copy] > l2[names.index("a"), names.index("a-half")]
    card = (tmp_path / "work" / "forest-0" / "a-half" / "README.md").read_text()
    assert "base_model: a\n" in card and "d_p" in capsys.readouterr().out
