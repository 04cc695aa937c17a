"""No name covers another or leaves the page, the same numbers give the same bytes, and pictures show the numbers."""

import itertools
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation
from PIL import Image
from scipy.spatial.distance import pdist, squareform

from hf_infodist.analysis.geometry import Geometry, Map, isomap
from hf_infodist.analysis.plots import draw_all, draw_bars, draw_descent, draw_map, draw_tree
from hf_infodist.results.pictures import COLOURS, draw_curves, draw_matrix, save
from hf_infodist.results.words import Unit

NAMES = (
    *(f"hf-hub:timm/tf_efficientnet_lite{i}.in1k@main" for i in range(4)),
    *("timm:resnet18.a1_in1k", "torchvision:resnet50@IMAGENET1K_V2", "microsoft/resnet-18", "demo:cnn", "demo:vit"),
    *(f"./runs/an-experiment-with-a-very-long-name-indeed/checkpoint-{i:06}" for i in range(4)),
)


def crowd(dimensions, spread=30.0):
    """Three clusters of models, the kind of picture in which names meet."""
    rng = np.random.default_rng(0)
    return rng.normal(0, spread, (3, dimensions))[np.arange(len(NAMES)) % 3] + rng.normal(
        0, 2, (len(NAMES), dimensions)
    )


def matrix(n=13):
    nats = squareform(pdist(crowd(3)[:n])) * np.random.default_rng(1).uniform(0.7, 1, (n, n))
    return nats, Geometry.of(np.maximum(nats, nats.T))


def boxes(texts, figure):
    renderer = figure.canvas.get_renderer()
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


def assert_apart(found, figure):
    assert not [(i, j) for (i, a), (j, b) in itertools.combinations(enumerate(found), 2) if a.overlaps(b)]
    for box in found:
        assert figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1), box
        assert figure.bbox.containsy(box.y0) and figure.bbox.containsy(box.y1), box


def written(axes):
    return [child for child in axes.get_children() if isinstance(child, Annotation) and child.get_text()]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_names_on_a_map_do_not_overlap_one_another_or_a_point(dimensions):
    chart = Map(crowd(dimensions), 5, 1.0)
    figure = draw_map(chart, NAMES)
    (axes,) = figure.axes
    found = boxes(written(axes), figure)
    assert len(found) == len(NAMES)
    assert_apart([*found, *boxes([axis.label for axis in axes._axis_map.values()], figure)], figure)
    points = axes.transData.transform([text.xy for text in written(axes)])
    assert not [1 for box in found for point in points if box.contains(*point)]
    ticks = [tick.label1 for axis in axes._axis_map.values() for tick in axis.majorTicks]
    assert not [1 for box in found for other in boxes(ticks, figure) if box.overlaps(other)]


def test_points_on_a_map_are_where_the_map_says_in_equal_units():
    chart = isomap(squareform(pdist(crowd(2))))
    figure = draw_map(chart, NAMES, groups=["a", "b", "c"] * 4 + ["a"])
    (axes,) = figure.axes
    drawn = np.concatenate([line.get_xydata() for line in axes.lines])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, chart.points))
    assert [to_hex(line.get_color()).upper() for line in axes.lines] == list(COLOURS[:3])
    assert len({line.get_marker() for line in axes.lines}) == 3
    (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert "nats" in axes.get_xlabel() and "nats" in axes.get_ylabel()


def test_names_of_a_matrix_and_a_tree_fit_the_page():
    nats, geometry = matrix()
    figure = draw_matrix(nats, NAMES, geometry.tree.order)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    assert_apart(boxes([*axes.get_yticklabels(), *axes.texts], figure), figure)
    assert_apart(boxes([axes.title, *axes.get_xticklabels()], figure), figure)
    figure = draw_tree(geometry.tree, NAMES, groups=["x", "y"] * 6 + ["x"])
    axes = figure.axes[0]
    figure.draw_without_rendering()
    assert_apart(boxes([*axes.get_yticklabels(), axes.xaxis.label, *figure.legends[0].get_texts()], figure), figure)


def test_a_matrix_shows_each_number_in_the_row_of_its_teacher():
    nats = np.array([[0, 12, 340.0], [56, 0, 78], [90, math.nan, 0]])
    axes = draw_matrix(nats, "abc", (2, 0, 1)).axes[0]
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}  # column, row
    assert shown == {(1, 0): "90", (2, 0): "–", (0, 1): "340", (2, 1): "12", (0, 2): "78", (1, 2): "56"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c  1", "a  2", "b  3"]
    small = draw_matrix(nats / 400, "abc", (0, 1, 2), unit="output/KL").axes[0]
    assert small.texts[0].get_text() == ".03" and small.get_title() == "output/KL"


def test_a_tree_joins_at_the_heights_of_its_linkage():
    _, geometry = matrix()
    axes = draw_tree(geometry.tree, NAMES).axes[0]
    heights = [line.get_xdata().max() for line in axes.lines if len(line.get_xdata()) == 4]
    assert sorted(heights) == pytest.approx(sorted(geometry.tree.linkage[:, 2]))
    assert axes.get_xlim()[1] == 0 and "nats" in axes.get_xlabel()


CURVES = {NAMES[0]: [(8, 8.0), (16, 12.0), (32, 15.0)], NAMES[1]: [(8, 20.0), (32, 30.0)]}


def test_curves_begin_at_nothing_and_end_at_the_codelengths_in_either_unit():
    for unit, one in ((Unit.BITS, 1 / math.log(2)), (Unit.NATS, 1)):
        figure = draw_curves(CURVES, "a footnote", unit)
        (axes,) = figure.axes
        lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 1]
        assert all((line[0] == 0).all() for line in lines)
        assert [tuple(line[-1]) for line in lines] == [(32, pytest.approx(15 * one)), (32, pytest.approx(30 * one))]
        assert axes.get_ylabel().endswith(unit)
        figure.draw_without_rendering()
        assert_apart([*boxes([*figure.legends[0].get_texts(), *figure.texts], figure), axes.bbox], figure)


def test_bars_are_as_long_as_the_numbers_and_their_errors():
    figure = draw_bars("nearest to x", {NAMES[0]: (0.5, 0.1), NAMES[1]: (0.7, 0.2)}, unit="bits per image")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.7]
    (errors,) = axes.collections
    ends = np.array([segment[:, 0] for segment in errors.get_segments()])
    assert ends == pytest.approx(np.array([(0.4, 0.6), (0.5, 0.9)]))
    figure.draw_without_rendering()
    assert_apart(boxes([*axes.get_yticklabels(), axes.title, axes.xaxis.label], figure), figure)


def test_descent_is_drawn_from_parents_to_children_whatever_their_order():
    parents = {"c": ("b", "2"), "b": ("a", "1"), "a": (None, ""), "d": (None, "")}
    figure = draw_descent(parents, footnote="bits")
    texts = [text for text in figure.axes[0].texts if text.get_text() in parents]
    places = {text.get_text(): text.get_position() for text in texts}
    assert places["a"][0] < places["b"][0] < places["c"][0] and places["d"][0] == places["a"][0]
    assert places["a"][1] < places["b"][1] < places["c"][1] and len({y for _, y in places.values()}) == 4


def test_the_same_numbers_give_the_same_files(tmp_path):
    nats, geometry = matrix(6)
    first, second = (draw_all(geometry, nats, NAMES[:6], tmp_path / name) for name in ("a", "b"))
    assert {path.name for path in first} == {f"{name}.{kind}" for name in ("matrix", "tree", "map2d", "map3d")
                                             for kind in ("png", "svg")}  # fmt: skip
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        if one.suffix == ".png":
            with Image.open(one) as picture:
                assert min(picture.size) > 200 and one.stat().st_size < 150_000
        else:
            ElementTree.parse(one)


def test_drawing_leaves_no_figure_and_no_setting_behind(tmp_path):
    import matplotlib
    from matplotlib import _pylab_helpers

    def state():
        return dict(matplotlib.rcParams), list(_pylab_helpers.Gcf.figs)  # other tests may have left some

    before = state()
    save(draw_curves(CURVES), tmp_path / "curves")
    assert state() == before
