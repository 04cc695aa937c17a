"""Parents are read from both directions, cards are read where they are, and a lineage is the cheapest forest."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from hf_infodist.cli import main
from hf_infodist.declared import read_declared
from hf_infodist.errors import UnfitError
from hf_infodist.lineage import Lineage, find_copies, find_parents
from hf_infodist.model_sources import DEMO
from hf_infodist.pairwise import PairwiseMatrix
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.result import ModelRecord

IMAGES = {"id": "digits", "config": None, "split": None, "column": None, "k": 100, "seed": 0, "fingerprint": "f"}


def matrix(nats, names=None):
    nats = np.array(nats, float)
    np.fill_diagonal(nats, 0)
    names = names or "abcdefgh"[: len(nats)]
    models = tuple(ModelRecord(name, "timm", None, 10, name, {"input_size": [3, 8, 8]}) for name in names)
    return PairwiseMatrix(models, nats, np.ones_like(nats), "infodist", IMAGES, PROTOCOLS["probe"])


def family():
    """Two trees: a → b → c, and d → e; what is made from a parent is cheap, back is dearer, strangers are dearest."""
    nats = np.full((5, 5), 90.0)
    for child, parent in ((1, 0), (2, 1), (4, 3)):
        nats[child, parent], nats[parent, child] = 10, 30
    nats[2, 0], nats[0, 2] = 25, 50
    return matrix(nats)


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_a_family_is_told_with_its_roots_and_directions():
    found = Lineage.of(family())
    assert [one.parent for one in found.descents] == [None, "a", "b", None, "d"]
    b = found.descents[1]
    assert (b.nearest, b.nats, b.back_nats, b.second, b.second_nats) == ("a", 10, 30, "c", 30)
    assert b.usual_nats == 60 and not b.copies
    (row,) = (line.split() for line in str(found).splitlines() if line.startswith("b "))
    assert row == ["b", "a", "10.0", "1.0", "30.0", "c", "30.0", "17%"]


def test_turning_every_number_around_turns_every_edge_around():
    backwards = find_parents(family().nats.T)
    assert [backwards[i] for i in (0, 1, 3)] == [1, 2, 4] and backwards[4] is None


def test_a_lineage_does_not_depend_on_the_order_of_the_models():
    order = [3, 0, 4, 2, 1]
    full = family()
    moved = replace(full, models=tuple(full.models[i] for i in order), nats=full.nats[np.ix_(order, order)])
    expected = {one.model: one.parent for one in Lineage.of(full).descents}
    assert {one.model: one.parent for one in Lineage.of(moved).descents} == expected


@pytest.mark.parametrize("seed", range(5))
def test_no_forest_is_cheaper(seed):
    nats = np.random.default_rng(seed).uniform(1, 100, (5, 5))
    np.fill_diagonal(nats, 0)
    share = 0.6

    def cost(parents):
        usual = [np.median([nats[i, j] for j in range(5) if j != i]) for i in range(5)]
        return sum(share * usual[i] if p is None else nats[i, p] for i, p in enumerate(parents))

    def is_forest(parents):
        return all(
            any(
                at is None
                for at in itertools.accumulate(range(5), lambda at, _: at if at is None else parents[at], initial=i)
            )
            for i in range(5)
        )

    choices = itertools.product(*([None, *(j for j in range(5) if j != i)] for i in range(5)))
    best = min(cost(parents) for parents in choices if is_forest(parents))
    found = find_parents(nats, root_share=share)
    assert is_forest(found) and cost(found) == pytest.approx(best)


def test_copies_have_one_parent_and_are_not_each_others():
    nats = family().nats[np.ix_([0, 1, 1, 2], [0, 1, 1, 2])]
    nats[1, 2] = nats[2, 1] = 1e-3
    found = Lineage.of(matrix(nats)).descents
    assert [one.parent for one in found] == [None, "a", "a", "b"]
    assert [one.copies for one in found] == [(), ("c",), ("b",), ()]
    assert found[3].second == "a"  # the other copy of its parent is no second opinion
    assert found[3].usual_nats == 17.5 and found[0].usual_nats == 40
    assert "b is the same function as c" in str(Lineage.of(matrix(nats)))


def test_copies_of_copies_are_copies_and_what_is_missing_is_none():
    d = np.array([[0, 1, 9], [1, 0, 1], [9, 1, 0.0]])
    assert find_copies(d, 1) == [(0, 1, 2)] * 3 and find_copies(d, 0.5) == [(0,), (1,), (2,)]
    assert find_copies(np.array([[0, math.nan], [math.nan, 0]]), 1) == [(0,), (1,)]


def test_nothing_but_copies_has_no_parent_and_two_strangers_have_none_either():
    assert [one.parent for one in Lineage.of(matrix(np.zeros((2, 2)))).descents] == [None, None]
    only = Lineage.of(matrix([[0, 5], [9, 0]])).descents
    assert [one.parent for one in only] == [None, None] and only[0].nearest == "b"
    json.dumps(Lineage.of(matrix(np.zeros((2, 2)))).to_dict(), allow_nan=False)


def test_what_tells_no_direction_or_is_not_whole_is_refused():
    full = family()
    with pytest.raises(UnfitError, match="linear CKA tells no parents"):
        Lineage.of(replace(full, measure="linear CKA", protocol=None))
    nats = full.nats.copy()
    nats[2, 1] = math.nan
    with pytest.raises(UnfitError, match=r"1 codelengths are missing, the first of c given b\nout of memory"):
        Lineage.of(replace(full, nats=nats, errors={(2, 1): "out of memory"}))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three folders of models, whose cards say: nothing; made from the first; a merge of the first and a stranger."""
    import shutil

    cards = {
        "root": "# No head\n",
        "child": "---\nbase_model: root\n---\n",
        "merged": "---\nbase_model:\n- ../root\n- acme/stranger\nbase_model_relation: merge\n---\n",
        "broken": "---\nbase_model: [\n---\n",
        "lost": "---\nbase_model: acme/stranger\n---\n",
    }
    for name, card in cards.items():
        shutil.copytree(DEMO / "cnn", tmp_path / name)
        (tmp_path / name / "README.md").write_text(card)
    monkeypatch.chdir(tmp_path)
    return [f"./{name}" for name in cards]


def test_cards_say_what_a_model_was_made_from(folders):
    said = read_declared([*folders, "demo:vit", "random:demo:cnn", "nowhere/at-all", "of a file that is gone"])
    assert said.keys() == {"./child", "./merged", "./lost"}
    assert said["./child"].among == said["./merged"].among == ("./root",) and said["./lost"].among == ()
    assert str(said["./merged"]) == "merge of ../root and acme/stranger"
    assert str(said["./child"]) == "fine-tune of root"


def test_a_declared_parent_is_compared_with_the_measured_one(folders):
    names = [folders[0], folders[1], folders[4], "demo:vit"]
    nats = np.full((4, 4), 90.0)
    nats[1, 3], nats[3, 1] = 5, 20
    told = str(Lineage.of(matrix(nats, names), read_declared(names)))
    assert "./child: declared: fine-tune of root; measured: nearest is demo:vit: they differ" in told
    assert "./lost: declared: fine-tune of acme/stranger; measured: nearest is" in told
    assert "is not among these models" in told
    nats[1, 3], nats[1, 0] = 90, 5
    told = str(Lineage.of(matrix(nats, names), read_declared(names)))
    assert "measured: nearest is ./root\n" in told


def test_the_command_reads_a_matrix_or_computes_one(tmp_path, capsys, folders):
    words = ["-i", "digits", "-k", 16, "-p", "probe", "--json"]
    models = ["demo:cnn", "./child", "demo:vit", "random:demo:cnn"]
    code, out, err = run(capsys, "lineage", *models, *words, "-o", "lineage.json")
    assert code == 0 and "6 of 6 done" in err  # a copy is not run
    fields = json.loads(out)
    assert fields["schema"] == "infodist.lineage/1" and fields == json.loads((tmp_path / "lineage.json").read_text())
    rows = {row["model"]: row for row in fields["models"]}
    assert rows["./child"]["copies"] == ["demo:cnn"] and rows["./child"]["declared"]["bases"] == ["root"]
    (tmp_path / "matrix.json").write_text(json.dumps(fields["matrix"]))
    code, out, _ = run(capsys, "lineage", "--matrix", "matrix.json")
    assert code == 0 and "./child is the same function as demo:cnn" in out and "made from" in out


def test_the_command_needs_models_or_a_matrix_and_not_both(capsys):
    for words in ([], ["demo:cnn", "demo:vit", "--matrix", "matrix.json"]):
        code, _, err = run(capsys, "lineage", *words)
        assert code == 2 and len(err.splitlines()) == 3
