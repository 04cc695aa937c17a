"""Parts of a matrix join to the whole, what is of another kind is refused, and the command line draws and asks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hf_infodist.analysis.neighbours import Neighbours
from hf_infodist.cli import main
from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.models.declared import Declared
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.distance import InformationDistance
from hf_infodist.results.files import merge, of_codes, of_results, read_matrix
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.results.words import Unit, rounded

NAMES = ("demo:cnn", "demo:vit", "acme/a", "acme/b@main", "timm:resnet18.a1_in1k", "timm:resnet50.a1_in1k")
IMAGES = ImagesRecord("digits", None, None, None, 64, 0, "f")


def whole():
    records = tuple(ModelRecord(name, "timm", None, 10, name, {}) for name in NAMES)
    nats = np.random.default_rng(0).uniform(10, 99, (6, 6))
    np.fill_diagonal(nats, 0)
    return PairwiseMatrix(records, nats, np.full((6, 6), 1.0), "infodist", IMAGES, PROTOCOLS["standard"])


def part(matrix, rows):
    here = np.ix_(rows, rows)
    models = tuple(matrix.models[i] for i in rows)
    return replace(matrix, models=models, nats=matrix.nats[here], stderr_nats=matrix.stderr_nats[here])


def without(matrix, *pairs):
    nats, errors = matrix.nats.copy(), matrix.stderr_nats.copy()
    for pair in pairs:
        nats[pair] = errors[pair] = math.nan
    return replace(matrix, nats=nats, stderr_nats=errors, errors={pair: "out of memory" for pair in pairs})


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_complementary_parts_join_to_the_whole():
    full = whole()
    joined = merge([without(full, (0, 1), (4, 2)), without(full, (3, 5))])
    np.testing.assert_array_equal(joined.nats, full.nats)
    np.testing.assert_array_equal(joined.stderr_nats, full.stderr_nats)
    assert joined.models == full.models and joined.complete and not joined.errors
    assert merge([full, without(full, (0, 1))]).complete and merge([full]).complete


def test_models_of_all_parts_are_kept_and_pairs_of_none_are_missing():
    full, twin = whole(), (1, 2)
    joined = merge([part(full, [0, 1, 2]), replace(part(full, [5, 4, 2]), twins=(twin,), errors={(0, 1): "failed"})])
    assert [model.id for model in joined.models] == [NAMES[i] for i in (0, 1, 2, 5, 4)]
    assert joined.nats[3, 4] == full.nats[5, 4] and joined.nats[4, 2] == full.nats[4, 2]
    assert np.isnan(joined.nats[0, 3]) and np.isnan(joined.nats).sum() == 8
    assert joined.twins == ((2, 4),)
    assert not joined.errors  # what failed for one was computed by another


def test_a_failure_is_kept_in_its_new_place_while_nobody_has_the_number():
    full = whole()
    joined = merge([part(full, [0, 1]), without(part(full, [2, 1]), (0, 1))])
    assert joined.errors == {(2, 1): "out of memory"}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images", {"images": replace(IMAGES, fingerprint="g")}),
        ("protocol", {"protocol": PROTOCOLS["thorough"]}),
        ("measure", {"measure": "output/KL", "protocol": None}),
    ],
)
def test_matrices_of_another_kind_are_refused(name, change):
    with pytest.raises(UnfitError, match=f"differ in their {name}"):
        merge([whole(), replace(whole(), **change)])


def test_the_same_images_under_another_name_are_the_same_images():
    assert merge([whole(), replace(whole(), images=replace(IMAGES, id="./digits.parquet"))]).complete


def test_matrices_that_disagree_are_refused():
    other = replace(whole(), nats=whole().nats * (1 + 1e-3 * (np.arange(6) == 2)))
    with pytest.raises(UnfitError, match="different numbers"):
        merge([whole(), other])


def test_neighbours_are_sorted_by_the_larger_direction():
    matrix = whole()
    found = Neighbours.of(matrix, "acme/a")
    assert [one.nats for one in found.neighbours] == sorted(np.delete(matrix.distances[2], 2))
    first = found.neighbours[0]
    j = NAMES.index(first.model)
    assert (first.given_nats, first.back_nats) == (matrix.nats[j, 2], matrix.nats[2, j])
    assert len(Neighbours.of(matrix, "acme/a", 2).neighbours) == 2
    assert len(Neighbours.of(without(matrix, (2, 0)), "acme/a").neighbours) == 4
    with pytest.raises(NotFoundError, match="no model is named 'acme/aa'") as error:
        Neighbours.of(matrix, "acme/aa")
    assert "infodist nearest acme/a " in error.value.fix


def test_a_file_that_is_no_matrix_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match="is missing"):
        read_matrix(tmp_path / "none.json")
    for text in ("{", "[]", "{}"):
        (tmp_path / "odd.json").write_text(text)
        with pytest.raises(UnfitError):
            read_matrix(tmp_path / "odd.json")


def test_the_command_draws_a_matrix_and_says_how_far_to_trust_it(capsys, tmp_path):
    full = whole()
    for name, matrix in (("a", without(full, (0, 1))), ("b", without(full, (1, 0)))):
        (tmp_path / f"{name}.json").write_text(json.dumps(matrix.to_dict()))
    code, out, _ = run(capsys, "map", tmp_path / "a.json", tmp_path / "b.json", "--into", tmp_path / "out", "--json")
    fields = json.loads(out)
    assert code == 0 and fields == json.loads((tmp_path / "out" / "geometry.json").read_text())
    assert fields["models"] == list(NAMES) and fields["triangles"]["triples"] == 20
    assert len(fields["map_2d"]["points"]) == 6 and sorted(fields["tree"]["order"]) == list(range(6))
    for name in ("matrix", "tree", "map2d", "map3d"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            picture.verify()
        assert (tmp_path / "out" / f"{name}.svg").stat().st_size > 1000
    code, _, err = run(capsys, "map", tmp_path / "a.json", "--into", tmp_path / "none")
    assert code == 4 and "1 of 15 distances are missing" in err and "infodist matrix" in err
    assert not (tmp_path / "none").exists()


def test_the_command_asks_a_matrix_for_neighbours(capsys, tmp_path):
    (tmp_path / "matrix.json").write_text(json.dumps(whole().to_dict()))
    code, out, _ = run(capsys, "nearest", "demo:vit", "--matrix", tmp_path / "matrix.json", "-n", 2)
    expected = Neighbours.of(whole(), "demo:vit", 2)
    assert (
        code == 0
        and out == f"{expected}\n"
        and [line.split()[0] for line in out.splitlines()[3:]] == [one.model for one in expected.neighbours]
    )
    for words in (["demo:cnn", "--matrix", "m.json"], ["--matrix", "m.json", "--atlas", "demo:digits"]):
        code, _, err = run(capsys, "nearest", "demo:vit", *words)
        assert code == 2 and len(err.splitlines()) == 3 and "among what" in err


def test_the_command_compares_with_the_models_it_is_given(capsys, tmp_path):
    words = ["-i", "digits", "-k", "24", "-p", "standard", "--json"]
    code, out, _ = run(capsys, "nearest", "demo:cnn", "demo:vit", *words)
    found = json.loads(out)["neighbours"]
    assert code == 0 and [one["model"] for one in found] == ["demo:vit"]
    code, out, err = run(capsys, "compare", "demo:cnn", "demo:vit", *words, "--plot", tmp_path / "curves.png")
    result = json.loads(out)
    assert found[0]["nats"] == result["distance"]["nats"]
    assert (found[0]["given_nats"], found[0]["back_nats"]) == tuple(
        result[f"{d}"]["nats"] for d in ("b_given_a", "a_given_b")
    )
    assert {path.name for path in tmp_path.glob("curves.*")} == {"curves.png", "curves.svg"} and "curves.svg" in err


# Who is nearest, and by how much


def priced(*, k=400, seed=0, **levels):
    """The matrix of one model with others: what an image costs varies by how hard it is, the same for all."""
    rng = np.random.default_rng(seed)
    hard = rng.gamma(0.5, 2.0, k)
    images = replace(IMAGES, k=k)
    results = []
    for name, (given, back) in levels.items():
        codes = [code(nats * hard * rng.uniform(0.9, 1.1, k)) for nats in (back, given)]
        results.append(InformationDistance(*codes, model("asked"), model(name), images, PROTOCOLS["standard"], "cpu"))
    return of_results(results)


def code(prices):
    return Codelength(prices, 0.0, 1.0, (), (len(prices),), 0.05, 0.0)


def model(name):
    return ModelRecord(name, "timm", None, 10, name, {})


def test_who_is_farther_is_told_where_single_errors_would_hide_it():
    found = Neighbours.of(priced(near=(0.1, 0.30), far=(0.32, 0.2), equal=(0.302, 0.1)), "asked").neighbours
    by_name = {one.model: one for one in found}
    near, far, equal = (by_name[name] for name in ("near", "far", "equal"))
    assert far.farther_nats == pytest.approx(far.nats - found[0].nats)
    assert far.farther_nats < far.stderr_nats and far.farther_nats > 3 * far.farther_stderr_nats
    assert not far.tied_with_nearest and near.tied_with_nearest and equal.tied_with_nearest
    assert (found[0].farther_nats, found[0].farther_stderr_nats) == (0, 0)


def test_ties_and_the_smallest_difference_are_shown():
    found = Neighbours.of(priced(near=(0.1, 0.30), far=(0.4, 0.2), equal=(0.301, 0.1)), "asked")
    lines = found.text(Unit.NATS).splitlines()
    first, second, third = lines[3:6]
    assert first.endswith("nearest") and third.startswith("far") and "= " not in third and "  = 0." in second
    smallest = found.smallest_nats
    assert smallest == tuple(2 * one.farther_stderr_nats for one in found.neighbours[1:])
    least, most = (rounded(nats / 400)[0] for nats in (min(smallest), max(smallest)))
    assert lines[-1] == f"400 images tell differences of {least} to {most} nats/image and more."
    fields = found.to_dict()["neighbours"][1]
    assert set(fields) == {
        *("model", "nats", "given_nats", "back_nats", "stderr_nats"),
        *("farther_nats", "farther_stderr_nats", "tied_with_nearest", "copy"),
    }
    assert found.to_pandas()["tied_with_nearest"].tolist() == [True, True, False]


def test_a_file_of_a_matrix_has_no_prices_and_so_says_nothing_of_differences():
    matrix = priced(near=(0.1, 0.30), far=(0.4, 0.2))
    read = PairwiseMatrix.from_dict(json.loads(json.dumps(matrix.to_dict())))
    found = Neighbours.of(read, "asked")
    far = found.neighbours[1]
    assert (far.farther_nats, far.farther_stderr_nats, far.tied_with_nearest) == (None, None, None)
    assert "farther" not in str(found) and "farther" in str(Neighbours.of(matrix, "asked"))
    assert far.nats == Neighbours.of(matrix, "asked").neighbours[1].nats


def test_prices_follow_their_models_when_matrices_are_joined_and_parted():
    one, other = priced(near=(0.1, 0.3)), priced(far=(0.4, 0.2), seed=1)
    joined = merge([one, other])
    for matrix in (joined, joined.only([2, 0, 1]), joined.only([1, 0])):
        names = [record.id for record in matrix.models]
        assert len(matrix.image_nats) == (4 if len(names) == 3 else 2)
        for (i, j), prices in matrix.image_nats.items():
            assert math.fsum(prices) == matrix.nats[i, j]
    assert joined.only([1, 0]).nats[0, 1] == one.nats[1, 0]


def test_twins_cost_nothing_image_by_image():
    codes = {(0, 1): code(np.full(64, 0.5)), (1, 0): code(np.full(64, 0.25))}
    codes |= {(2, 1): codes[0, 1], (1, 2): codes[1, 0]}
    matrix = of_codes([model("a"), model("b"), model("a again")], codes, IMAGES, PROTOCOLS["standard"], [(0, 2)])
    near = Neighbours.of(matrix, "a").neighbours
    assert [(one.model, one.nats, one.farther_nats) for one in near] == [("a again", 0, 0), ("b", 32, 32)]
    assert [one.copy for one in near] == [True, False]
    assert "a is the same function as a again\n" in str(Neighbours.of(matrix, "a"))
    assert [one.tied_with_nearest for one in Neighbours.of(matrix, "b").neighbours] == [True, True]


def test_models_that_say_next_to_nothing_are_no_copies():
    alike = Neighbours.of(priced(near=(4e-4, 4e-4), far=(3e-3, 3e-3)), "asked")
    apart = Neighbours.of(priced(near=(4e-4, 4e-4), far=(0.1, 0.3)), "asked")
    assert [one.copy for one in alike.neighbours] == [False, False]  # near, as all are
    assert [one.copy for one in apart.neighbours] == [True, False]


def test_what_a_card_declares_is_looked_for_among_the_neighbours():
    matrix = priced(near=(0.1, 0.30), far=(0.4, 0.2))
    for among, told in ((("far",), "far is number 2"), ((), "it is not among these 2")):
        found = Neighbours.of(matrix, "asked", declared=Declared(("acme/far",), "fine-tune", among))
        assert str(found).splitlines()[-1] == f"asked: declared: fine-tune of acme/far; by distance: {told}"
        assert found.to_dict()["declared"]["bases"] == ("acme/far",)
    assert Neighbours.of(matrix, "asked").to_dict()["declared"] is None


def test_more_than_two_models_are_led_to_the_command_that_ranks_them(capsys):
    code, out, err = run(capsys, "compare", "demo:cnn", "demo:vit", "random:demo:cnn", "-i", "digits")
    assert (code, out) == (2, "") and err.splitlines() == [
        "error: 3 models are named",
        "infodist compare tells all about two",
        "to rank the others by their distance from demo:cnn: infodist nearest demo:cnn demo:vit random:demo:cnn",
    ]
