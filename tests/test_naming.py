"""Classes under names that nobody shares are matched by what models say: a copy stays one whatever they are called."""

import json
import shutil

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from hf_infodist.analysis.atlas import add_models, head_of
from hf_infodist.analysis.kin_in_atlas import lineage_in_atlas
from hf_infodist.cli import main
from hf_infodist.distances.naming import find_matches
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.distances.verify import verify
from hf_infodist.errors import UsageError
from hf_infodist.home import Home
from hf_infodist.images.request import Sample
from hf_infodist.images.sample import load_images
from hf_infodist.models.load import Renamed, load_classifier
from hf_infodist.models.names import DEMO
from hf_infodist.page.matrices import known_groups
from hf_infodist.pair import Execution
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.store import Store
from hf_infodist.studies.networks.pairs import relabelled

ANIMALS, NONSENSE = ("cat", "dog", "emu", "fox", "gnu"), ("v", "w", "x", "y", "z")


def said(seed, k=40, classes=5, sharp=3.0):
    return np.random.default_rng(seed).normal(0, sharp, (k, classes))


def matches(labels, logits):
    return find_matches([tuple(each) for each in labels], lambda i: logits[i])


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_in_another_order_gets_the_names_of_its_classes(seed):
    rng = np.random.default_rng(seed)
    rows, first = rng.permutation(5), said(seed)
    copy = first[:, rows] + rng.normal(0, 0.5, first.shape)
    found = matches([ANIMALS, ANIMALS, NONSENSE], [first, said(seed + 100), copy])
    assert found.keys() == {2} and found[2].like == 0
    assert found[2].labels == tuple(ANIMALS[row] for row in rows)


def test_the_best_of_all_orders_is_found():
    """The sum over images of both divergences is that of the assignment, worked out from its definition."""
    one, other = (said(seed) for seed in (1, 2))
    other = 0.6 * other + 0.8 * one[:, [2, 0, 1, 4, 3]]  # of some likeness

    def log_probs(rows):
        return rows - np.log(np.exp(rows).sum(1, keepdims=True))

    p, q = log_probs(one), log_probs(other)
    divergence = [
        [(np.exp(p[:, a]) - np.exp(q[:, b])) @ (p[:, a] - q[:, b]) for a in range(5)] for b in range(5)
    ]  # KL(p ‖ q) + KL(q ‖ p) is a sum over classes
    _, columns = linear_sum_assignment(divergence)
    found = matches([ANIMALS, NONSENSE], [one, other])
    assert found[1].labels == tuple(ANIMALS[column] for column in columns)


def test_models_of_one_space_are_renamed_alike_and_the_larger_space_keeps_its_names():
    first, rows = said(0), np.array([3, 0, 4, 1, 2])
    hidden, again = first[:, rows], said(9)[:, ::-1]
    found = matches([NONSENSE, ANIMALS, NONSENSE[::-1], ANIMALS, ANIMALS], [hidden, first, again, said(1), said(2)])
    assert found[0].labels == tuple(ANIMALS[row] for row in rows)
    assert found[2].labels == found[0].labels[::-1] and found.keys() == {0, 2}


@pytest.mark.parametrize("other", [ANIMALS, ANIMALS[::-1], ("0", "1", "2", "3", "4"), ("a", "b", "c", "d")])
def test_who_shares_names_or_has_numbers_or_other_classes_keeps_them(other):
    first = said(0)
    assert not matches([ANIMALS, other], [first, first[:, : len(other)]])


def test_who_says_something_else_altogether_is_not_matched():
    assert not matches([ANIMALS, NONSENSE], [said(0, k=2000), said(1, k=2000)])
    assert not matches([ANIMALS, NONSENSE], [said(0), None])


def test_matching_does_not_depend_on_the_order_of_models():
    labels = [ANIMALS, ANIMALS, NONSENSE]
    logits = [said(0), said(1), said(0)[:, [1, 2, 3, 4, 0]]]
    there = matches(labels, logits)[2].labels
    for order in ([2, 1, 0], [1, 2, 0], [0, 2, 1]):
        found = matches([labels[i] for i in order], [logits[i] for i in order])
        assert found[order.index(2)].labels == there


def test_certain_models_rule_nothing_out():
    sure = np.where(np.eye(5)[np.arange(40) % 5] > 0, 1e4, -1e4)
    found = matches([ANIMALS, NONSENSE], [sure, np.roll(sure, 1, axis=1)])
    assert found[1].labels == tuple(np.roll(ANIMALS, 1))


def test_a_copy_under_hidden_names_costs_nothing_once_they_are_matched():
    model = load_classifier("demo:cnn")
    hidden, sample = relabelled(model), {"images": "digits", "k": 64}
    apart = pairwise_distances([model, hidden], **sample)
    same = pairwise_distances([model, hidden], **sample, match_classes=True)
    assert apart.distances[0, 1] > 5 > 0.01 > same.distances[0, 1]
    assert apart.matched == () and same.matched == ((1, 0),)
    assert "classes of demo:cnn relabelled share no name with others" in same.text()
    again = PairwiseMatrix.from_dict(json.loads(json.dumps(same.to_dict())))
    assert again.matched == same.matched and again.only([1]).matched == () and same.only([1, 0]).matched == ((0, 1),)
    older = {name: value for name, value in same.to_dict().items() if name != "matched"}
    assert PairwiseMatrix.from_dict(older).matched == ()


def test_what_costs_otherwise_under_matched_names_says_so_in_the_store(tmp_path):
    """It is no answer to what the pair costs as it is, it is made again as it was made, and all else is as ever."""
    shutil.copytree(DEMO / "vit", tmp_path / "hidden")
    file = tmp_path / "hidden" / "config.json"
    hidden = {str(row): f"secret {row}" for row in range(10)}
    labels = {"id2label": hidden, "label2id": {name: int(row) for row, name in hidden.items()}}
    file.write_text(json.dumps(json.loads(file.read_text()) | labels))
    models, home = ["demo:cnn", str(tmp_path / "hidden"), "random:demo:cnn"], tmp_path / "home"
    execution = Execution(home=home)
    store = Store(Home.at(home).codelengths)
    matched = pairwise_distances(models, "digits", k=24, execution=execution, match_classes=True)
    assert matched.matched == ((1, 0),)
    records = list(store.records())
    flagged = [one for one in records if one.classes]
    assert len(records) == 6 and len(flagged) == 4 and all("classes matched" in str(one) for one in flagged)
    assert all(models[1] in (one.teacher.id, one.student.id) for one in flagged)
    assert all(verdict.same for _, verdict in verify(flagged[:2]))
    assert {len(group.models) for group in known_groups([], store.folder)} == {2}
    plain = pairwise_distances(models, "digits", k=24, execution=execution)
    assert sum(not one.classes for one in store.records()) == 6 and plain.nats[0, 1] != matched.nats[0, 1]
    (group,) = known_groups([], store.folder)
    place = [group.models.index(model.id) for model in plain.models]
    assert np.array_equal(group.matrix.only(place).nats, plain.nats)


def test_strangers_cost_under_matched_names_what_they_cost_under_their_own():
    model, stranger = load_classifier("demo:cnn"), load_classifier("demo:vit")
    hidden, sample = relabelled(stranger), {"images": "digits", "k": 64}
    known = pairwise_distances([model, stranger], **sample).nats
    assert np.allclose(pairwise_distances([model, hidden], **sample, match_classes=True).nats, known, rtol=1e-6)
    assert (pairwise_distances([model, hidden], **sample).nats[~np.eye(2, dtype=bool)] > known[known > 0]).all()


def test_baselines_know_classes_by_name_alone():
    with pytest.raises(UsageError, match="no classes are matched for linear CKA"):
        pairwise_distances(["demo:cnn", "demo:vit"], "digits", k=8, measure="linear CKA", match_classes=True)


def test_a_renamed_model_is_the_same_under_other_names():
    own = load_classifier("demo:cnn")
    names = tuple("abcdefghij")
    renamed = load_classifier(Renamed("demo:cnn", names))
    assert renamed.labels == names and renamed.weights_hash == own.weights_hash and renamed.record == own.record


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_command_sees_a_copy_under_hidden_names_and_says_so(tmp_path, monkeypatch, capsys, workers):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DEMO / "cnn", tmp_path / "hidden")
    file = tmp_path / "hidden" / "config.json"
    config = json.loads(file.read_text())
    config["label_names"] = [f"secret {letter}" for letter in "klmnopqrst"]
    file.write_text(json.dumps(config))
    assert load_classifier("./hidden").labels[0] == "secret k"
    words = ["lineage", "demo:cnn", "demo:vit", "./hidden", "-i", "digits", "-k", "24", "--workers", str(workers)]
    outputs = []
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main(words)
        outputs.append(capsys.readouterr())
        assert stop.value.code == 0
    assert "./hidden is the same function as demo:cnn" in outputs[0].out
    assert "classes of ./hidden share no name with others, and were taken for those of demo:cnn" in outputs[0].out
    assert outputs[1].out == outputs[0].out


def test_an_atlas_sees_a_copy_under_hidden_names(tmp_path):
    model, stranger = load_classifier("demo:cnn"), load_classifier("demo:vit")
    images = load_images(Sample("digits", k=48))
    atlas = Atlas.begin(tmp_path / "atlas", head_of(images))
    assert not add_models(atlas, [model, stranger, relabelled(model)], images).failed
    rows = {one.model: one for one in lineage_in_atlas(atlas).descents}
    assert rows["demo:cnn"].copies == ("demo:cnn relabelled",) and rows["demo:vit"].relation == "none"
