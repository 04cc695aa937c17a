"""What came with the page is of this version; what it shows of a record is text, numbers and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hf_infodist.page import figures, views
from hf_infodist.page.chart import chart
from hf_infodist.page.compare_tab import drawn
from hf_infodist.page.events import Block, Checked, Done, Failed, Stage, Stopped, Waiting, from_line, to_line
from hf_infodist.page.eviction import evict_oldest
from hf_infodist.page.matrices import Group, known_groups, stored_record
from hf_infodist.page.ranking import ranking
from hf_infodist.page.records import SHIPPED, Opinion, Record, Records, greeting, shipped
from hf_infodist.page.request import DEMO, KNOWN, Comparison, Limits, Refusal, requested
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.distance import InformationDistance
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.results.ruler import ANCHORS
from hf_infodist.results.words import amount, number, rounded, to_bits

REPAIR = "python -m hf_infodist.page.precompute, and infodist study anchors"


@pytest.fixture
def embedded():
    """Records of embedded models."""
    return [record for record in shipped() if not record.origin]


def test_every_pair_of_embedded_and_of_known_models_came_with_the_page():
    pairs = {frozenset((record.comparison.a, record.comparison.b)) for record in shipped()}
    assert pairs == {frozenset((a, b)) for names in (DEMO, KNOWN) for a in names for b in names if a < b}


def test_the_page_opens_with_networks_that_people_know_and_says_where_their_numbers_are_from():
    record = greeting()
    assert {record.comparison.a, record.comparison.b} < set(KNOWN) and "ImageNet" in record.origin
    page = views.result(record, brief=True)
    assert "from scratch" in page and record.origin[:40] in page and "infodist compare" not in page
    with pytest.raises(Refusal, match="timm/tf_efficientnet_lite"):
        requested(record.comparison.a, "demo:cnn", limits=Limits(public=False))


def test_what_came_with_the_page_was_measured_by_the_protocols_of_today():
    for record in shipped():
        protocol = json.loads(json.dumps(PROTOCOLS[record.comparison.protocol].to_dict()))
        assert record.result["protocol"] == protocol, REPAIR
        assert (SHIPPED / f"{record.comparison.key}.json").is_file(), REPAIR
    for anchors in json.loads(ANCHORS.read_text()):
        protocol = json.loads(json.dumps(PROTOCOLS[anchors["protocol"]["name"]].to_dict()))
        assert anchors["protocol"] == protocol, REPAIR


def test_what_came_with_the_page_is_small():
    assert sum(path.stat().st_size for path in SHIPPED.glob("*.json")) < 300_000
    assert sum(path.stat().st_size for path in SHIPPED.glob("*.npz")) < 200_000  # all prices of a shipped atlas


def test_a_record_comes_back_as_it_was_written(tmp_path):
    record = replace(shipped()[0], comparison=Comparison("demo:cnn", "demo:vit", k=77))
    records = Records(tmp_path / "pages")
    assert records.find(record.comparison) is None
    records.save(record)
    assert records.find(record.comparison) == record
    assert [path.name for path in records.folder.iterdir()] == [f"{record.comparison.key}.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": "infodist.page/1"}', "\udcff"])
def test_a_damaged_record_is_as_good_as_none(tmp_path, content):
    pair = Comparison("demo:cnn", "demo:vit", k=78)
    (tmp_path / f"{pair.key}.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    assert Records(tmp_path).find(pair) is None


def test_a_name_of_another_shape_finds_no_file(tmp_path):
    assert all(len(pair.key) == 32 for pair in (Comparison("../../x", "/etc/passwd"), Comparison("", "")))


@pytest.mark.parametrize(
    "event",
    [
        *(Waiting(3), Stage("a\nb"), Block("a_given_b", 3, 0.1, 2.0), Stopped("why"), Failed("a", "b", "c", "k")),
        *(Checked((1, 2), 3.0, 4.0, "cpu", True, ""), Done({"a": [1]})),
    ],
)
def test_events_travel_as_one_line(event):
    line = to_line(event)
    assert "\n" not in line
    back = from_line(line)
    assert back == event or list(back.parameters) == list(event.parameters)


def test_a_hostile_label_in_a_record_stays_text(embedded):
    evil = "<script>alert(1)</script>${alert(2)}{{alert(3)}}`"
    record = embedded[0]
    opinion = Opinion((evil, "x"), (0.9, 0.1))
    result = json.loads(json.dumps(record.result))
    result["model_a"]["id"] = result["images"]["id"] = evil
    differences = (replace(record.differences[0], a=opinion, b=opinion, picture='"><script>'),)
    baselines = [record.baselines[0] | {"name": evil, "reason": evil}]
    page = views.result(replace(record, result=result, sentence=evil, baselines=baselines, differences=differences))
    assert "<script" not in page and not set("${`") & set(page)
    assert "&lt;script&gt;" in page


def test_the_result_marks_the_larger_direction_and_agrees_with_its_numbers():
    record = next(record for record in shipped() if (record.comparison.a, record.comparison.b) == DEMO[:2])
    page, distance = views.result(record), record.result["distance"]
    bits = to_bits(np.array([distance["nats"], distance["stderr_nats"]]))
    assert f"{rounded(*bits / 400)[0]} bits per image" in page and f"{amount(*bits)} bits over 400 images" in page
    assert page.count("the distance</span>") == 1
    larger = max(("a_given_b", "b_given_a"), key=lambda way: record.result[way]["nats"])
    rows = page.split('<tr role="row">')
    marked = next(row for row in rows if "the distance</span>" in row)
    assert f">{number(to_bits(record.result[larger]['nats']))}</td>" in marked


def test_a_partial_result_says_so_and_why():
    page = views.partial([("a_given_b", 64, 12.5)], Comparison("x/y", "demo:vit", k=400), "its time is over")
    assert "Partial result" in page and "its time is over" in page
    assert "x/y given demo:vit" in page and "64 of 400" in page and "18.0" in page


def test_a_cost_over_the_budget_says_what_fits():
    page = views.cost(Checked((10**6, 2 * 10**6), 5e12, 4000.0, "cpu", False, "the protocol probe or 64 images"))
    assert "What fits: the protocol probe or 64 images" in page and "67 min" in page


def test_known_distances_are_grouped_by_what_may_be_compared(embedded, tmp_path):
    first = embedded[0]
    other = json.loads(json.dumps(first.result))
    other["images"]["seed"] = 1
    matrices = known_groups([*embedded, replace(first, result=other)], tmp_path)
    assert [len(found.models) for found in matrices] == [4, 2]
    found = matrices[0]
    assert found.models == tuple(sorted(DEMO)) and np.isfinite(found.matrix.nats).all()
    i, j = found.models.index(first.comparison.a), found.models.index(first.comparison.b)
    assert found.matrix.nats[i, j] == first.result["a_given_b"]["nats"]
    assert found.bits_per_image[i, j] == pytest.approx(first.result["distance"]["bits"] / 400)
    assert found.has(first.comparison) and not found.has(replace(first.comparison, seed=1))
    assert len(found.pairs()) == 6 and found.pairs()[0][1] <= found.pairs()[-1][1]


def test_what_another_version_has_written_is_left_out(embedded, tmp_path):
    first = embedded[0]
    older, newer = (json.loads(json.dumps(first.result)) for _ in range(2))
    del older["images"]["column"]
    newer["protocol"]["unheard_of"] = 1
    strange = [replace(first, result=result) for result in (older, newer)]
    assert known_groups(strange, tmp_path) == []
    assert [len(found.models) for found in known_groups([*strange, *embedded], tmp_path)] == [4]
    records = Records(tmp_path)
    records.save(replace(first, comparison=replace(first.comparison, seed=1)))
    assert len(list(records)) == len(shipped()) + 1
    (kept,) = tmp_path.glob("*.json")
    kept.rename(tmp_path / f"{'0' * 32}.json")  # the name it would have under another version of the coding
    assert len(list(records)) == len(shipped())


def test_models_with_gaps_are_left_out_of_the_map(embedded, tmp_path):
    records = [record for record in embedded if "random:demo:vit" not in (record.comparison.a, record.comparison.b)]
    one_more = next(record for record in embedded if record not in records)
    found = known_groups([*records, one_more], tmp_path)[0]
    assert len(found.models) == 4 and np.isnan(found.bits_per_image).any()
    assert found.without_gaps().models == tuple(sorted(set(DEMO) - {"random:demo:vit"}))


@pytest.fixture
def stored(tmp_path):
    """A store with one pair, and a model given itself at a cost, as older versions kept it."""
    from hf_infodist.results.store import CodelengthRecord, Store

    a, b = (ModelRecord(name, "torch", None, 3, "0", {}) for name in ("./a", "org/b"))
    images = ImagesRecord("digits", None, None, "image", 4, 0, "f")
    store = Store(tmp_path)
    for i, (teacher, student) in enumerate(((a, b), (b, a), (a, a))):
        code = Codelength(np.full(4, 1.0 + i), 9.0, 9.0, (), (2, 4), 0.05, 1.0)
        store.put(CodelengthRecord(str(i) * 32, teacher, student, images, PROTOCOLS["standard"], code, "cpu"))
    (tmp_path / "broken.json").write_text("{")
    return tmp_path


def test_the_store_of_codelengths_is_read_as_it_is_written(stored):
    (found,) = known_groups([], stored)
    assert found.models == ("./a", "org/b") and found.matrix.nats.tolist() == [[0.0, 4.0], [8.0, 0.0]]
    assert found.settings == ("digits", 4, "standard", 0)
    for a, b in (found.models, found.models[::-1]):
        asked = Comparison(a, b, "digits", 4, "standard")
        record = stored_record(stored, asked)
        nats = {"./a": 4.0, "org/b": 8.0}
        assert [record.result[way]["nats"] for way in ("a_given_b", "b_given_a")] == [nats[a], nats[b]]
        assert "11.5 bits" in views.result(record) and "results of this machine" in views.result(record)
    assert stored_record(stored, replace(asked, seed=1)) is None
    assert stored_record(stored, replace(asked, a="/etc/passwd")) is None


def compared(name, nats, seed):
    """A record of the page: 100 images that cost as much on average, both ways."""
    hard = nats * np.random.default_rng(0).gamma(0.5, 2.0, 100) * np.random.default_rng(seed).uniform(0.9, 1.1, 100)
    models = (ModelRecord(each, "torch", None, 3, each, {}) for each in ("./a", name))
    images = ImagesRecord("digits", None, None, "image", 100, 0, "f")
    result = InformationDistance(
        *(_code(hard * share) for share in (1.0, 0.5)), *models, images, PROTOCOLS["standard"], "cpu"
    )
    return Record.of(Comparison("./a", name, "digits", 100, "standard"), result, [], ())


def _code(prices):
    return Codelength(prices, 9.0, 9.0, (), (len(prices),), 0.05, 1.0)


def test_the_ranking_of_the_page_says_who_is_tied_with_the_nearest():
    records = [compared("./near", 0.5, 1), compared("./equal", 0.505, 2), compared("./far", 0.7, 3)]
    shown = [ranking("./a", found, {}, 0) for found in (records, [one.swapped().swapped() for one in records])]
    assert shown[0] == shown[1]
    near, equal, far = shown[0].split("<li>")[1:]
    assert 'class="amount">= ' in equal and "farther than the nearest" in equal and "tied with the nearest" in shown[0]
    assert "farther than the nearest" in far and '"amount">= ' not in far and "farther" not in near.split("</li>")[0]
    read = [Record.from_dict(json.loads(json.dumps(one.to_dict()))) for one in records]
    assert ranking("./a", read, {}, 0) == shown[0]


def test_records_of_before_have_no_prices_and_the_ranking_says_nothing_of_ties():
    old = [replace(compared(name, nats, 1), image_nats={}) for name, nats in (("./near", 0.5), ("./equal", 0.505))]
    shown = ranking("./a", old, {}, 2)
    assert "tied" not in shown and "farther" not in shown and "2 still to come" in shown


def test_what_a_model_costs_given_itself_is_no_gap_and_breaks_no_picture(embedded, tmp_path):
    first = embedded[0]
    itself = json.loads(json.dumps(first.result))
    itself["model_b"] = itself["model_a"]
    found = known_groups([*embedded, replace(first, result=itself)], tmp_path)[0]
    assert (found.matrix.nats.diagonal() == 0).all()
    assert figures.matrix(found) and figures.tree(found) and chart(found)


def test_the_oldest_outputs_go_first_and_codelengths_stay(tmp_path):
    import os

    for age, name in enumerate(("outputs/new", "runs/old", "outputs/oldest", "codelengths/x")):
        path = tmp_path / name / "data"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"0" * 1000)
        os.utime(path.parent, (1e9 - age, 1e9 - age))
    evict_oldest(2500, tmp_path)
    assert not (tmp_path / "outputs/oldest").exists() and (tmp_path / "runs/old").exists()
    evict_oldest(0, tmp_path)
    assert (tmp_path / "codelengths/x/data").exists() and not (tmp_path / "outputs/new").exists()


def test_the_page_is_read_without_torch():
    import subprocess
    import sys

    code = "import sys, hf_infodist.page.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_records_are_complete():
    for record in shipped():
        assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record
        assert len(record.baselines) >= 16 and len(record.differences) == (0 if record.origin else 8)
        assert record.result["schema"] == "infodist.result/1"


def test_a_record_the_other_way_round_says_the_same(embedded):
    record = embedded[0]
    there = record.swapped()
    assert there.comparison == record.comparison.swapped() and there.swapped().result == record.result
    assert there.result["a_given_b"] == record.result["b_given_a"]
    assert (there.differences[0].a, there.differences[0].b) == (record.differences[0].b, record.differences[0].a)


def test_rows_of_a_matrix_stand_in_the_order_of_the_leaves(embedded, tmp_path):
    (found,) = known_groups(embedded, tmp_path)
    names = [pair[0] for pair in (row[0] for row in figures.matrix(found).data[0].customdata)]
    leaves = list(figures.tree(found).layout.yaxis.ticktext)
    assert sorted(names) == sorted(DEMO) and names == leaves
    assert abs(names.index("demo:cnn") - names.index("demo:vit")) == 1
    (gappy,) = known_groups([record for record in embedded if record != embedded[0]], tmp_path)
    last = set(gappy.models) - set(gappy.without_gaps().models)
    assert gappy.in_order().models[-1] in last and gappy.in_order().models[:3] == tuple(
        figures.tree(gappy).layout.yaxis.ticktext
    )


def test_every_picture_names_images_protocol_and_versions_and_has_a_text(embedded, tmp_path):
    (found,) = known_groups(embedded, tmp_path)
    pictures = [figures.matrix(found), figures.tree(found), chart(found), figures.curves({}, embedded[0].comparison)]
    for picture in pictures:
        texts = " ".join(note.text for note in picture.layout.annotations)
        for part in ("400 images of digits", "seed 0, protocol standard", "hf-infodist", "coding"):
            assert part in texts
        assert len(picture.layout.meta["alt"]) > 40


@pytest.mark.parametrize("width", [334, 700, 1000])
def test_names_on_the_map_cover_neither_one_another_nor_points(width):
    from hf_infodist.page.chart import _HEIGHT, _SIDES

    n = 12
    rng = np.random.default_rng(0)
    places = rng.random((n, 2))
    models = [ModelRecord(f"org/model-number-{i}", "timm", None, 10, str(i), {}) for i in range(n)]
    nats = np.linalg.norm(places[:, None] - places, axis=2) * 400
    images = ImagesRecord("digits", None, None, None, 400, 0, "f")
    group = Group(PairwiseMatrix(tuple(models), nats, 0 * nats, "infodist", images, PROTOCOLS["standard"]))
    figure = chart(group, (), width)
    assert not figure.layout.xaxis.visible and not figure.layout.yaxis.visible
    x0, x1 = figure.layout.xaxis.range
    y0, _ = figure.layout.yaxis.range
    scale = (width - 2 * _SIDES) / (x1 - x0)  # pixels of a bit
    dots = np.stack([figure.data[0].x - x0, figure.data[0].y - y0], 1) * scale
    boxes = []
    for note in figure.layout.annotations:
        if note.text and note.text.startswith("model-"):
            low = np.array([(note.x - x0) * scale + note.xshift, (note.y - y0) * scale + note.yshift])
            boxes.append((low, low + np.array([7 * len(note.text) - 8, 14])))  # as wide as a browser writes it
    assert len(boxes) == n
    for i, (low, high) in enumerate(boxes):
        assert (low >= -1).all() and (high <= [width - 2 * _SIDES + 1, _HEIGHT]).all()
        assert not any(((low < dot) & (dot < high)).all() for dot in dots)
        assert not any(((low < boxes[j][1]) & (boxes[j][0] < high)).all() for j in range(i))
    assert [note.text for note in figure.layout.annotations if "bits per image" in note.text]  # the scale


@pytest.mark.parametrize(
    ("number", "words"),
    [(900, "900"), (78_300, "78.3 thousand"), (999_999, "1 million"), (4_652_008, "4.65 million"), (2e9, "2 billion")],
)
def test_large_numbers_are_said_as_people_say_them(number, words):
    assert views.count(number) == words


def test_a_picture_that_cannot_be_drawn_is_hidden_and_logged(caplog):
    def broken():
        raise ValueError("it cannot be drawn")

    assert drawn(broken).visible is False
    assert "it cannot be drawn" in caplog.text
