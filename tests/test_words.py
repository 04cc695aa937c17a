"""Numbers are said to the digits that their errors leave, in one unit, and no sentence says more than they do."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_infodist.analysis.lineage import Lineage
from hf_infodist.analysis.neighbours import Neighbours
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.distance import ComplexityTable, InformationDistance
from hf_infodist.results.export import write
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.results.ruler import ANCHORS, Ruler
from hf_infodist.results.words import Unit, amount, percent, rounded

DIGITS = ImagesRecord("digits", None, None, None, 400, 0, json.loads(ANCHORS.read_text())[0]["fingerprint"])
STANDARD = PROTOCOLS["standard"]


def number(text):
    return float(text.replace(",", ""))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e5))
def test_rounding_changes_a_number_by_less_than_half_its_error_and_the_error_by_a_seventh(value, error):
    told, told_error = map(number, rounded(value, error))
    assert abs(told - value) <= 0.5 * error
    assert told_error == pytest.approx(error, rel=0.15)
    assert len(rounded(value, error)[1].replace(",", "").replace(".", "").strip("0")) <= 2


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        (41.234, 8.1, "41 ± 8"),
        (0.0728, 0.0134, "0.073 ± 0.013"),
        (2345.6, 123.4, "2,350 ± 120"),
        (5, 9.7, "5 ± 10"),
        (3e-7, 1e-7, "0.0000 ± 0.0000"),
        (-0.001, 0.3, "0.00 ± 0.30"),
        (12345.6, math.nan, "12,346"),
        (0.5, math.nan, "0.500"),
        (0, 0, "0"),
        (math.inf, 1, "n/a"),
    ],
)
def test_numbers_as_people_write_them(value, error, told):
    assert amount(value, error) == told


def code(total, *, k=400, marginal=1000.0, spread=0.1):
    """A codelength of ``total`` bits, whose images differ."""
    prices = np.full(k, total / k) * (1 + spread * (-1.0) ** np.arange(k))
    return Codelength(prices * math.log(2), 2 * total * math.log(2), marginal * math.log(2), (), (k,), 0.05, 0.0)


def distance(a_bits, b_bits=0.0, *, images=DIGITS, weights=("x", "y"), **options):
    a, b = (ModelRecord(f"org/{name}", "timm", None, 10, name, {}) for name in weights)
    codes = code(a_bits, k=images.k, **options), code(b_bits, k=images.k, **options)
    return InformationDistance(*codes, a, b, images, STANDARD, "cpu")


def anchors():
    return {anchor.relation: anchor for anchor in Ruler.of(DIGITS, STANDARD).anchors}


def test_one_sentence_says_the_number_its_error_and_its_share():
    said = distance(41, spread=1.0).explain()
    assert said.startswith("Turning org/y into org/x takes 0.102 ± 0.007 bits per image, 41.0 ± 2.9 over 400 images, ")
    assert "4.10% of describing it from scratch; more than another training seed, less than another task." in said
    in_nats = distance(41, spread=1.0).explain(Unit.NATS)
    assert "0.071 ± 0.005 nats per image" in in_nats and " bits" not in in_nats


def test_the_sentence_names_who_is_turned_into_whom():
    assert distance(1, 41).explain().startswith("Turning org/x into org/y takes")


@pytest.mark.parametrize("relation", ["other seed", "other task", "random network"])
def test_a_pair_of_the_ruler_itself_is_about_as_far_as_its_anchor(relation):
    anchor = anchors()[relation]
    assert anchor.phrase in distance(400 * anchor.bits_per_image).explain().split("about as much as ")[1]


def test_beyond_the_last_anchor_and_near_the_first():
    ruler, far = Ruler.of(DIGITS, STANDARD), anchors()["random network"].bits_per_image
    assert ruler.verdict(3 * far, 0.001) == "more than a network that has learnt nothing"
    assert ruler.verdict(0.0, 1e-9) == "" or "the same weights" in ruler.verdict(0.0, 1e-7)
    assert ruler.verdict(0.01, 0.0001) == "less than another training seed"
    assert ruler.verdict(0.2, 0.2) == ""  # within the error of nearly all of them


@pytest.mark.parametrize(
    "images",
    [
        replace(DIGITS, k=401, fingerprint="other"),
        replace(DIGITS, fingerprint="other"),
        replace(DIGITS, id="org/x", fingerprint="z"),
    ],
)
def test_other_images_have_no_verdict(images):
    said = distance(41, images=images).explain()
    assert said.endswith("of describing it from scratch.") and not Ruler.of(images, STANDARD).same_settings


def test_another_protocol_has_no_verdict():
    other = replace(distance(41), protocol=PROTOCOLS["sampled"])
    assert other.explain().endswith("of describing it from scratch.")


def test_nothing_is_said_to_differ_from_describing_it_from_scratch_within_the_error():
    assert ", as much as describing it from scratch" in distance(41, marginal=40.9, spread=1.0).explain()
    assert ", as much as describing it from scratch" in distance(41, marginal=41.1, spread=1.0).explain()
    assert ", more than describing it from scratch (" in distance(41, marginal=20.0, spread=1.0).explain()
    assert "scratch" not in distance(41, marginal=0.0).explain()


def test_a_model_and_itself_are_the_same_weights():
    assert distance(1e-4, 1e-4, weights=("x", "x")).explain() == "org/x and org/x are the same weights: 0 bits."
    assert "are the same weights" not in distance(1e-4, 1e-4).explain()


@given(st.floats(0, 2), st.floats(1e-4, 0.1))
def test_a_verdict_never_contradicts_the_numbers(bits, error):
    said, sure = Ruler.of(DIGITS, STANDARD).verdict(bits, error), 2 * error
    for anchor in anchors().values():
        if f"more than {anchor.phrase}" in said:
            assert bits > anchor.bits_per_image + sure
        if f"less than {anchor.phrase}" in said:
            assert bits < anchor.bits_per_image - sure


def test_percentages_have_the_digits_of_their_errors():
    assert (percent(0.0234, 0.004), percent(0.0234), percent(math.nan)) == ("2.3%", "2.34%", "n/a")


def test_the_ruler_is_in_order_and_shows_where_a_distance_lies():
    for images in (DIGITS, replace(DIGITS, id="org/photos", fingerprint="other")):
        measured = Ruler.of(images, STANDARD)
        assert [one.relation for one in measured.anchors] == list(anchors())
        places = [measured.position(anchor.bits_per_image) for anchor in measured.anchors]
        assert places == sorted(places) and places[0] < 0.01 and 0.9 < places[-1] <= 1


# What results show of themselves


def matrix():
    models = tuple(ModelRecord(f"org/{name}", "timm", None, 10, name, {}) for name in "abc")
    nats = np.array([[0, 12, 340.0], [56, 0, 78], [90, 33, 0]])
    return PairwiseMatrix(models, nats, nats / 10, "infodist", DIGITS, STANDARD)


def results():
    pair, full = distance(41, 29), matrix()
    return [
        pair,
        full,
        Lineage.of(full),
        Neighbours.of(full, "org/a"),
        ComplexityTable((pair.model_a,), (pair.a_given_b,), DIGITS, STANDARD),
        pair.a_given_b,
    ]


@pytest.mark.parametrize("found", results(), ids=lambda found: type(found).__name__)
def test_results_have_a_short_line_a_page_of_html_and_a_table(found, tmp_path):
    assert repr(found).startswith(f"<{type(found).__name__}") and len(repr(found)) < 160 and "\n" not in repr(found)
    shown = found._repr_html_()
    assert shown.startswith("<pre>") and shown.count("<img") == (not isinstance(found, ComplexityTable))
    table = found.to_pandas()
    assert len(table) > 0
    for read, suffix in ((pandas.read_csv, "csv"), (pandas.read_parquet, "parquet")):
        write(found, tmp_path / f"x.{suffix}")
        numbers = table.select_dtypes("number")
        np.testing.assert_allclose(
            read(tmp_path / f"x.{suffix}")[list(numbers)].to_numpy(float), numbers.to_numpy(float)
        )
    write(found, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()).keys() == json.loads(json.dumps(found.to_dict())).keys()


@pytest.mark.parametrize("found", results()[:5], ids=lambda found: type(found).__name__)
def test_a_text_has_one_unit(found):
    assert "nats" not in str(found) and "bits" in str(found)
    assert "bits" not in found.text(Unit.NATS) and "nats" in found.text(Unit.NATS)


def test_tables_hold_the_numbers_of_the_result():
    pair = distance(41, 29)
    assert list(pair.to_pandas()["nats"]) == [pair.a_given_b.nats, pair.b_given_a.nats]
    assert list(pair.to_pandas()["teacher"]) == ["org/x", "org/y"]
    square = matrix().to_pandas().pivot(index="teacher", columns="student", values="nats").to_numpy()
    assert np.array_equal(square, matrix().nats)
    assert matrix().shown()[0][0, 1] == pytest.approx(12 / math.log(2) / 400)


def test_a_name_is_text_in_html_whatever_it_is_called():
    pair = replace(distance(1), model_a=replace(distance(1).model_a, id="<script>x</script>"))
    assert "<script" not in pair._repr_html_()


def test_the_first_256_are_told_of_a_new_head_and_of_more_images():
    few = replace(DIGITS, k=100, fingerprint="few")

    def other(found):
        return str(replace(found, model_b=replace(found.model_b, num_classes=3)))

    assert "first 256" in other(distance(41)) and "first 256" not in other(distance(41, images=few))
    assert "first 256" not in str(distance(41))


def test_each_column_has_its_unit():
    head = io.StringIO(str(distance(41))).readlines()[1:3]
    assert head[0].split("  ")[-1].strip() == "of scratch"
    assert head[1].split() == ["bits/image", "bits", "bits/image", "bits", "%"]
