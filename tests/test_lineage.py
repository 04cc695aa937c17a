"""Relations are told or left open, cards are read where they are, and nothing wrong is said of a few models."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from hf_infodist.analysis.kinship import FEWEST
from hf_infodist.analysis.lineage import Lineage
from hf_infodist.analysis.relations import find_copies
from hf_infodist.cli import main
from hf_infodist.errors import UnfitError
from hf_infodist.models.declared import Declared, read_declared
from hf_infodist.models.families import read_families
from hf_infodist.models.names import DEMO
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord

IMAGES = ImagesRecord("digits", None, None, None, 100, 0, "f")
RELATIONS, DIRECTIONS = {"copy", "kin", "none"}, {"from", "to", "unknown"}


def matrix(nats, names=None):
    nats = np.array(nats, float)
    np.fill_diagonal(nats, 0)
    names = names or "abcdefghijklm"[: len(nats)]
    models = tuple(ModelRecord(name, "timm", None, 10, name, {"input_size": [3, 8, 8]}) for name in names)
    return PairwiseMatrix(models, nats, np.ones_like(nats), "infodist", IMAGES, PROTOCOLS["standard"])


def zoo(*kin, n=9, by=1.2, seed=0, start=0.0):
    """Models of levels of their own; some pairs are nearer, and the second of each is a worse start for others."""
    rng = np.random.default_rng(seed)
    dear, good = rng.normal(2, 0.3, n), rng.normal(2, 0.1, n)
    for i, j in kin:
        good[j] = good[i] + start
    nats = np.exp(dear[:, None] + good + rng.normal(0, 0.05, (n, n)))
    for i, j in kin:
        nats[i, j], nats[j, i] = nats[i, j] * np.exp(-by), nats[j, i] * np.exp(-by)
    return nats


def with_copy(nats, i):
    """The same with a copy of model i at the end."""
    order = [*range(len(nats)), i]
    nats = nats[np.ix_(order, order)]
    nats[i, -1] = nats[-1, i] = 1e-3
    return nats


def relations(found):
    return [(one.relation, one.of) for one in found.descents]


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_kin_are_named_and_nobody_else():
    found = Lineage.of(matrix(zoo((0, 1), (4, 5))))
    assert relations(found)[:2] == [("kin", "b"), ("kin", "a")] and relations(found)[4:6] == [
        ("kin", "f"),
        ("kin", "e"),
    ]
    assert all(one == ("none", None) for one in relations(found)[2:4] + relations(found)[6:])
    a = found.descents[0]
    assert a.p_value < 0.01 and a.p_alone < a.p_value and a.kin == ("b",) and a.strangers == 7
    assert a.mean_nats == pytest.approx((a.nats * a.back_nats) ** 0.5) and a.mean_nats < 0.5 * a.strangers_nats
    assert found.descents[2].p_value > 0.05 and found.descents[2].nearest is not None
    (row,) = (line.split() for line in str(found).splitlines() if line.startswith("a "))
    assert row[:3] == ["a", "kin", "b"]


@pytest.mark.parametrize("seed", range(3))
def test_among_strangers_there_is_no_relation(seed):
    assert set(relations(Lineage.of(matrix(zoo(seed=seed))))) == {("none", None)}


def test_relations_do_not_depend_on_the_order_of_the_models():
    full, order = matrix(with_copy(zoo((0, 1), (1, 2)), 4)), [3, 9, 5, 4, 2, 1, 0, 8, 7, 6]
    moved = replace(full, models=tuple(full.models[i] for i in order), nats=full.nats[np.ix_(order, order)])
    one, other = ({d.model: (d.relation, d.of, d.kin) for d in Lineage.of(each).descents} for each in (full, moved))
    assert one == other


def test_a_copy_is_no_kin_and_counts_once():
    nats = zoo((0, 1))
    found, alone = Lineage.of(matrix(with_copy(nats, 4))), Lineage.of(matrix(nats))
    assert relations(found)[4] == ("copy", "j") and relations(found)[9] == ("copy", "e")
    assert found.descents[4].p_value < 1e-4 and found.descents[4].copies == ("j",)
    assert "e is the same function as j" in str(found)
    assert relations(found)[:2] == relations(alone)[:2] and found.descents[0].strangers == alone.descents[0].strangers
    twice = Lineage.of(matrix(with_copy(nats, 1))).descents  # a copy of kin is kin
    assert twice[0].kin == ("b", "j") and twice[9].kin == ("a",) and twice[9].relation == "copy"


def test_copies_of_copies_are_copies_and_what_is_missing_is_none():
    d = np.array([[0, 1, 90], [1, 0, 1], [90, 1, 0.0]])
    assert find_copies(d, 1) == [(0, 1, 2)] * 3 and find_copies(d, 0.5) == [(0,), (1,), (2,)]
    assert find_copies(np.array([[0, math.nan], [math.nan, 0]]), 1) == [(0,), (1,)]


def test_models_that_say_next_to_nothing_are_no_copies():
    d = np.array([[0, 0.05, 0.1], [0.05, 0, 0.1], [0.1, 0.1, 0]])
    assert find_copies(10 * d, 0.6) == [(0,), (1,), (2,)] and find_copies(d, 0.1) == [(0, 1, 2)] * 3


def test_with_few_models_it_says_so_and_how_many_it_takes():
    found = Lineage.of(matrix(zoo((0, 1), n=4, by=4)))
    assert set(relations(found)) == {("none", None)} and all(one.p_value is None for one in found.descents)
    assert f"4 models without common ancestors are here, {FEWEST} of one architecture are needed" in str(found)
    assert str(found).count("cannot be told") >= 4 and " kin " not in str(found).split("cannot")[0].split("\n", 1)[1]
    copies = Lineage.of(matrix(np.full((2, 2), 1e-4)))
    assert relations(copies) == [("copy", "b"), ("copy", "a")] and copies.descents[0].p_value is None


def test_models_of_two_architectures_are_not_compared():
    nats = zoo((0, 7), n=14, by=3)
    found = Lineage.of(matrix(nats, list("abcdefghijklmn")), families=["x"] * 7 + ["y"] * 7)
    assert set(relations(found)) == {("none", None)}
    nats[:7, 7:] = nats[7:, :7] = math.nan  # so nobody needs these numbers
    assert all(
        one.told for one in Lineage.of(matrix(nats, list("abcdefghijklmn")), families=["x"] * 7 + ["y"] * 7).descents
    )


def test_a_reference_says_how_far_strangers_are():
    nats, names = zoo((0, 1)), list("abcdefghi")
    few = matrix(nats[:2, :2], names[:2])
    assert relations(Lineage.of(few)) == [("none", None)] * 2
    found = Lineage.of(matrix(nats), reference=names[2:])
    assert [one.model for one in found.descents] == ["a", "b"] and relations(found) == [("kin", "b"), ("kin", "a")]
    assert found.to_dict()["reference"] == names[2:]


def test_a_direction_is_told_where_third_models_tell_it():
    found = Lineage.of(matrix(zoo((0, 1), start=0.3))).descents
    assert (found[0].direction, found[1].direction) == ("to", "from")
    open_ = Lineage.of(matrix(zoo((0, 1)))).descents
    assert (open_[0].direction, open_[1].direction) == ("unknown", "unknown")


def test_its_json_is_what_others_read():
    found = Lineage.of(matrix(with_copy(zoo((0, 1)), 4)), {"a": Declared(("b",), "fine-tune", ("b",))}).to_dict()
    text = json.loads(json.dumps(found, allow_nan=False))
    assert text["schema"] == "infodist.lineage/1" and text["strangers_needed"] == FEWEST
    for row in text["models"]:
        assert row["relation"] in RELATIONS and row["direction"] in DIRECTIONS
        assert (row["of"] is None) == (row["relation"] == "none") and 0 <= row["p_value"] <= 1
        assert {"model", "kin", "copies", "nearest", "nats", "back_nats", "declared", "as_declared"} <= row.keys()


def test_kin_are_drawn_below_their_kin():
    figure = Lineage.of(matrix(with_copy(zoo((0, 1), (1, 2)), 4))).plot()
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sum(text.startswith("kin, p") for text in texts) == 2 and texts.count("copy") == 1
    assert set("abcdefghij") <= set(texts)


def test_what_tells_no_kin_or_is_not_whole_is_refused():
    full = matrix(zoo())
    with pytest.raises(UnfitError, match="linear CKA tells no kin"):
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


def test_families_are_read_from_names_and_configurations(folders):
    names = ["demo:cnn", "random:demo:vit", "timm:vit_base_patch16_224.augreg", "torchvision:resnet50@IMAGENET1K_V2"]
    assert read_families(names) == ("resnet", "vit", "vit", "resnet")
    assert read_families([*folders[:1], "nowhere/at-all", "of a file that is gone"]) == ("resnet", "", "")


def test_what_a_card_declares_stands_beside_what_is_measured():
    nats = zoo((0, 1))

    def said(base, of="a", among=None):
        declared = {of: Declared((base,), "fine-tune", (base,) if among is None else among)}
        found = Lineage.of(matrix(nats), declared)
        (one,) = (one for one in found.descents if one.model == of)
        return one.as_declared, str(found)

    as_declared, text = said("b")
    assert as_declared and "a: declared: fine-tune of b; measured: kin of b\n" in f"{text}\n"
    as_declared, text = said("d")
    assert as_declared is False and "a: declared: fine-tune of d; measured: kin of b: they differ" in text
    as_declared, text = said("d", of="e")
    assert as_declared is False and "e: declared: fine-tune of d; measured: no kin: they differ" in text
    as_declared, text = said("acme/stranger", among=())
    assert as_declared is None and "what is declared is not among these models" in text
    few = Lineage.of(matrix(nats[:3, :3]), {"a": Declared(("b",), "fine-tune", ("b",))})
    assert few.descents[0].as_declared is None and "measured: too few models to tell" in str(few)


def test_an_error_that_is_not_known_is_no_number():
    full = matrix(zoo())
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
    assert rows["random:demo:cnn"]["relation"] == "none"
    (tmp_path / "matrix.json").write_text(json.dumps(fields["matrix"]))
    code, out, _ = run(capsys, "lineage", "--matrix", "matrix.json", "--reference", "random:demo:cnn")
    assert code == 0 and "./child is the same function as demo:cnn" in out
    assert not any(line.startswith("random:demo:cnn ") for line in out.splitlines())


def test_nothing_wrong_is_said_of_two_architectures_and_a_random_network(capsys):
    code, out, _ = run(
        capsys, "lineage", "demo:cnn", "demo:vit", "random:demo:cnn", "-i", "digits", "-k", 16, "--json"
    )
    rows = json.loads(out)["models"]
    assert code == 0 and len(rows) == 3
    for row in rows:
        assert (row["relation"], row["of"], row["p_value"], row["direction"]) == ("none", None, None, "unknown")


def test_the_command_needs_models_or_a_matrix_and_not_both(capsys):
    for words in ([], ["demo:cnn", "demo:vit", "--matrix", "matrix.json"]):
        code, _, err = run(capsys, "lineage", *words)
        assert code == 2 and len(err.splitlines()) == 3
