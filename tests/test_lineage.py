"""Parents are read from both directions, cards are read where they are, and a lineage is the cheapest forest."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from hf_infodist.analysis.lineage import Lineage, find_copies, find_parents
from hf_infodist.cli import main
from hf_infodist.errors import UnfitError
from hf_infodist.models.declared import read_declared
from hf_infodist.models.names import DEMO
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord

IMAGES = ImagesRecord("digits", None, None, None, 100, 0, "f")


def matrix(nats, names=None):
    nats = np.array(nats, float)
    np.fill_diagonal(nats, 0)
    names = names or "abcdefgh"[: len(nats)]
    models = tuple(ModelRecord(name, "timm", None, 10, name, {"input_size": [3, 8, 8]}) for name in names)
    return PairwiseMatrix(models, nats, np.ones_like(nats), "infodist", IMAGES, PROTOCOLS["standard"])


def family():
    """Two trees: a → b → c and a → f, d → e; a parent helps, others do less the farther they are."""
    steps = {"aa": 0, "ab": 1, "bc": 1, "af": 1, "ac": 2, "bf": 2, "cf": 3, "de": 1}
    away = dict(zip("abcdef", (0, 1, 2, 0, 1, 1), strict=True))  # from its root

    def price(teacher, student):
        near = steps.get(teacher + student, steps.get(student + teacher))
        apart = 60 + 10 * (away[teacher] + away[student]) if near is None else 20 * near
        return 0 if teacher == student else apart + away[student]  # to learn what a root says costs a little more

    return matrix([[price(i, j) for j in "abcdef"] for i in "abcdef"])


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_a_family_is_told_with_its_roots_and_directions():
    found = Lineage.of(family())
    assert [one.parent for one in found.descents] == [None, "a", "b", None, "d", "a"]
    b = found.descents[1]
    assert (b.nearest, b.nats, b.back_nats, b.second, b.second_nats) == ("a", 20, 21, "c", 22)
    assert b.usual_nats == 41 and b.mean_distance == (21 + 22 + 71 + 81 + 41) / 5 and not b.copies
    (row,) = (line.split() for line in str(found).splitlines() if line.startswith("b "))
    each = [f"{nats / math.log(2) / found.matrix.images.k:.3g}" for nats in (21, 22, 47.2)]
    assert row[:2] == ["b", "a"] and row[4:] == [each[0], "c", each[1], "49", each[2]]
    in_bits = 1 / math.log(2) / found.matrix.images.k
    assert [float(cell) for cell in row[2:4]] == pytest.approx([20 * in_bits, in_bits], rel=0.04)
    root = found.descents[0]
    assert (root.candidate, root.nats) == ("b", 21)  # a root shows who is nearest


def test_a_lineage_does_not_depend_on_the_order_of_the_models():
    order = [3, 0, 5, 4, 2, 1]
    full = family()
    moved = replace(full, models=tuple(full.models[i] for i in order), nats=full.nats[np.ix_(order, order)])
    expected = {one.model: one.parent for one in Lineage.of(full).descents}
    assert {one.model: one.parent for one in Lineage.of(moved).descents} == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_parent_is_more_central_and_of_those_nobody_helps_more(seed):
    n, share = 8, 0.9
    nats = np.random.default_rng(seed).uniform(1, 100, (n, n))
    np.fill_diagonal(nats, 0)
    means = np.maximum(nats, nats.T).sum(1) / (n - 1)
    for i, parent in enumerate(find_parents(nats, root_share=share)):
        central = [j for j in range(n) if means[j] < means[i]]
        least, usual = min((nats[i, j] for j in central), default=np.inf), np.median(np.delete(nats[i], i))
        assert (parent is None) == (least > share * usual)
        assert parent is None or (parent in central and nats[i, parent] == least)
    assert sum(parent is None for parent in find_parents(nats, root_share=np.inf)) == 1  # so there is no circle
    assert find_parents(nats, root_share=0) == [None] * n


def test_copies_have_one_parent_and_are_not_each_others():
    order = [0, 1, 1, 2, 3, 4, 5]
    nats = family().nats[np.ix_(order, order)]
    nats[1, 2] = nats[2, 1] = 1e-3
    found = Lineage.of(matrix(nats)).descents
    assert [one.parent for one in found] == [None, "a", "a", "b", None, "e", "a"]
    assert [one.copies for one in found] == [(), ("c",), ("b",), (), (), (), ()]
    alone = Lineage.of(family()).descents
    assert found[3].second == "a"  # the other copy of its parent is no second opinion, nor does it count twice
    assert (found[3].usual_nats, found[3].mean_distance) == (alone[2].usual_nats, alone[2].mean_distance)
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
    np.fill_diagonal(nats, 0)
    names.append("./broken")  # a copy of the root, which comes first
    nats = np.vstack([np.hstack([nats, nats[:, :1]]), [*nats[0], 0]])
    order = [4, 1, 2, 3, 0]
    copied = matrix(nats[np.ix_(order, order)], [names[i] for i in order])
    child = Lineage.of(copied, read_declared(names)).descents[1]
    assert child.nearest == "./broken" and child.as_declared


def test_an_error_that_is_not_known_is_no_number():
    full = family()
    fields = Lineage.of(replace(full, stderr_nats=np.full_like(full.nats, math.nan))).to_dict()
    assert fields["models"][1]["stderr_nats"] is None
    json.dumps(fields, allow_nan=False)


def test_the_command_reads_a_matrix_or_computes_one(tmp_path, capsys, folders):
    words = ["-i", "digits", "-k", 8, "-p", "standard", "--json"]
    models = ["demo:cnn", "./child", "random:demo:cnn"]
    code, out, err = run(capsys, "lineage", *models, *words, "-o", "lineage.json")
    assert code == 0 and "2 of 2 done" in err  # a copy is not run
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
