"""The study of lineage: forests are what they are said to be, and scores are 1 for who knows the truth."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_infodist.analysis.lineage import Lineage
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.studies import lineage as study
from hf_infodist.studies import run_study
from hf_infodist.studies.measures.kin import COPIES, answers, ask, grown, part, scores, unrelated_groups
from hf_infodist.studies.networks import forest as _forest
from hf_infodist.studies.networks.births import KINDS, mixed
from hf_infodist.studies.networks.changes import swapped
from hf_infodist.studies.networks.data import Task
from hf_infodist.studies.networks.forest import SCALES, task_of

IMAGES = ImagesRecord("fashion", None, None, None, 500, 0, "f")


def facts(seeds=range(6)):
    return [one for seed in seeds for one in grown(seed, mixed(seed), "resnet10")]


def world(networks, kin=1.5, seed=0):
    """Codelengths as they are where those of one root are nearer by e^kin, and copies at nothing."""
    rng, n = np.random.default_rng(seed), len(networks)
    nats = np.exp(rng.normal(3, 0.2, n)[:, None] + rng.normal(1, 0.1, n) + rng.normal(0, 0.05, (n, n)))
    for i, a in enumerate(networks):
        for j, b in enumerate(networks):
            pairs = ((a, b), (b, a))
            copy = any(x.birth.how in COPIES and x.parent == y.id for x, y in pairs)
            nats[i, j] = 0 if i == j else 1e-3 if copy else nats[i, j] * np.exp(-kin * (a.root == b.root))
    for i, a in enumerate(networks):  # a copy is as far from others as its original
        if a.birth.how in COPIES:
            j = [one.id for one in networks].index(a.parent)
            others = [x for x in range(n) if x not in (i, j)]
            nats[i, others], nats[others, i] = nats[j, others], nats[others, j]
    models = tuple(ModelRecord(one.id, "timm", None, 10, one.id, {}) for one in networks)
    return PairwiseMatrix(models, nats, np.ones_like(nats), "infodist", IMAGES, PROTOCOLS["standard"])


def test_forests_differ_in_architecture_and_say_who_is_related():
    kinds = {tuple(dict.fromkeys(birth.architecture for birth in mixed(seed))) for seed in range(20)}
    assert len(kinds) > 10 and {kind for some in kinds for kind in some} == set(KINDS)
    by_name = {one.id: one for one in grown(7, mixed(7), "")}
    assert by_name["7/a-half-noisy"].root == "7/a" and by_name["7/a-half-noisy"].parent == "7/a-half"
    assert by_name["7/d"].root == "7/d" and by_name["7/d"].parent is None
    assert all(b.architecture == by_name[b.parent].architecture for b in by_name.values() if b.birth.trains_on)


def test_who_sees_kin_and_copies_has_every_score():
    networks = facts()
    found = study.ask_forests(world(networks), networks)
    summary = scores(found)
    assert len(found) == len(networks)
    for relation in ("copy", "kin"):
        assert summary[relation]["precision"]["share"] == summary[relation]["recall"]["share"] == 1
    assert summary["copy"]["recall"]["count"] == 18 and summary["kin"]["recall"]["count"] == 42
    assert summary["alone"]["share"] == 1


def test_where_kin_are_no_nearer_none_are_found_but_copies():
    networks = facts()
    summary = scores(study.ask_forests(world(networks, kin=0.0), networks))
    assert summary["kin"]["recall"]["right"] <= 1 and summary["copy"]["recall"]["share"] == 1


def test_wrong_kin_are_counted_as_wrong():
    networks = facts()
    matrix = world(networks)
    ids = [model.id for model in matrix.models]
    a, b = ids.index("0/d"), ids.index("0/e")
    nats = matrix.nats.copy()
    same = [i for i, one in enumerate(networks) if one.architecture == networks[a].architecture and one.id[0] != "0"]
    for other in (b, same[0]):
        nats[a, other] = nats[other, a] = 1.0
    summary = scores(study.ask_forests(replace(matrix, nats=nats), networks))
    assert summary["kin"]["precision"]["right"] < summary["kin"]["precision"]["count"]
    assert summary["alone"]["share"] < 1


def test_groups_of_strangers_name_nobody_and_planted_kin_are_seen():
    roots = [one for one in facts(range(12)) if one.birth.how == "root"]
    matrix = world(roots)
    counts = unrelated_groups(matrix, roots, each=6, draws=5)
    assert counts["any_kin"]["right"] == 0 and counts["silent_models"] == 0
    liar = [
        replace(one, root=roots[0].root) if one.architecture == roots[0].architecture else one for one in roots[:9]
    ]
    assert unrelated_groups(world([*liar, *roots[9:]]), roots, each=8, draws=5)["any_kin"]["right"] > 0


def test_a_part_of_a_matrix_has_its_numbers():
    networks = facts([0])
    matrix = world(networks)
    ids = [networks[i].id for i in (4, 1, 7)]
    assert [model.id for model in part(matrix, ids).models] == ids
    assert part(matrix, ids).nats[0, 2] == matrix.nats[4, 7]
    found = ask(matrix, networks[:3], networks[3:])
    assert isinstance(found, Lineage) and len(list(answers(found, networks[:3]))) == 3


def test_directions_of_edges_are_those_that_are_planted():
    networks = facts()
    matrix = world(networks)
    nats, ids = matrix.nats.copy(), [model.id for model in matrix.models]
    for i, one in enumerate(networks):  # who was made from another is a start that is worse by a third than its own
        depth = 0 if one.parent is None else 1 + (networks[ids.index(one.parent)].parent is not None)
        nats[:, i] = np.where(nats[:, i] > 0.01, np.exp(3.5 + 0.3 * depth) + 0.01 * np.arange(len(ids)), nats[:, i])
    found = study.edges(replace(matrix, nats=nats), networks)
    assert len(found["edges"]) == 5 * 6 and found["points_right"]["start"]["share"] == 1
    assert found["told"]["share"] == 1


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
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.running_mean.uniform_(-0.1, 0.1), each.running_var.uniform_(0.5, 2), each.weight.data.uniform_(0.5, 2)
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
def test_forests_are_grown_measured_and_drawn(tmp_path, capsys, monkeypatch):
    few = tuple(replace(b, architecture="mlp") for b in mixed(0) if b.name in ("a", "a-half", "b", "b-copy", "d", "e"))
    births = tuple(replace(b, how="rounded") if b.name == "b-copy" else b for b in few)
    monkeypatch.setattr(_forest, "FASHION", tmp_path / "none")  # the digits are everywhere
    small = replace(SCALES["small"], births=lambda seed: births, root=(2, 5e-3), train=400, k=32)
    monkeypatch.setattr(study, "SCALES", {"small": small})
    words = ["--work", str(tmp_path / "work"), "--seed", "0", "--seed", "1", "--each", "5", "--draws", "3"]
    run_study("lineage", [*words, "--output", str(tmp_path / "out")])
    figures = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert (tmp_path / "out" / "lineage.png").stat().st_size < 300_000
    found = {one["model"]: one for one in figures["answers"]}
    assert found["0/b-copy"]["found"] == "copy" and found["0/b-copy"]["of"] == "0/b"
    assert len(found) == 12 and figures["summary"]["copy"]["recall"]["right"] == 4
    card = (tmp_path / "work" / "forest-0" / "a-half" / "README.md").read_text()
    assert "base_model: a\n" in card and "groups of strangers" in capsys.readouterr().out
