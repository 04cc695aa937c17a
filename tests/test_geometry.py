"""Maps of what lies in a plane are isometric, trees of what is a tree are exact, and names do not matter."""

import json
import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet
from scipy.spatial.distance import pdist, squareform

from hf_infodist.analysis.geometry import (
    Geometry,
    dendrogram,
    isomap,
    nearest,
    triangles,
    triplet_accuracy,
    trustworthiness,
)
from hf_infodist.errors import UnfitError, UsageError


def points(n=12, dimensions=2, seed=0):
    return np.random.default_rng(seed).uniform(0, 100, (n, dimensions))


def distances(places):
    return squareform(pdist(places))


def ultrametric():
    """Heights at which leaves of ((0 1) ((2 3) 4)) join."""
    d = np.full((5, 5), 9.0)
    d[:2, :2], d[2:, 2:], d[2:4, 2:4] = 2.0, 6.0, 1.0
    np.fill_diagonal(d, 0)
    return d


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_map_of_points_is_isometric_where_the_graph_is_full(dimensions):
    d = distances(points(dimensions=dimensions))
    chart = isomap(d, dimensions, neighbours=11)
    np.testing.assert_allclose(distances(chart.points), d, rtol=1e-6)
    assert chart.trustworthiness == 1


def test_a_curve_is_unrolled_which_a_full_graph_does_not():
    turn = np.linspace(0, 1.5 * np.pi, 30)
    d = distances(np.stack([np.cos(turn), np.sin(turn)], 1))
    along = isomap(d, 2, neighbours=2).points
    np.testing.assert_allclose(abs(np.diff(along[:, 0])), d[0, 1], rtol=0.01)  # as far apart as on the curve
    assert abs(along[:, 1]).max() < 0.01 * np.ptp(along[:, 0])
    assert abs(along[0, 0] - along[-1, 0]) > 3 * d[0, -1]


def test_points_on_a_line_stay_on_it():
    d = distances(np.array([[0.0], [1], [3], [4], [8], [9], [20]]))
    chart = isomap(d)
    np.testing.assert_allclose(distances(chart.points), d, atol=1e-5)
    assert np.ptp(chart.points[:, 1]) < 1e-4


def test_the_graph_has_the_fewest_neighbours_that_join_it():
    two_groups = np.concatenate([points(7, seed=1), points(8, seed=2) + 1e4])
    d = distances(two_groups)
    assert isomap(d).neighbours == 7  # six others in the smaller group, and one beyond
    assert isomap(distances(points(30))).neighbours == 5
    with pytest.raises(UsageError, match="6 neighbours do not join 15 models"):
        isomap(d, neighbours=6)


def test_copies_lie_on_one_point():
    places = points(8)
    chart = isomap(distances(np.concatenate([places, places[:1]])), neighbours=8)
    np.testing.assert_allclose(chart.points[0], chart.points[-1], atol=1e-3)
    many = isomap(distances(np.concatenate([places, *[places[:1]] * 9])))
    np.testing.assert_allclose(many.points[8:], many.points[:1].repeat(9, 0), atol=1e-3)
    assert chart.trustworthiness == 1 and many.trustworthiness > 0.95


def test_a_map_does_not_depend_on_the_order_of_the_models():
    d, order = distances(points()) ** 1.2, np.random.default_rng(1).permutation(12)
    chart, other = isomap(d), isomap(d[np.ix_(order, order)])
    np.testing.assert_allclose(other.points, chart.points[order], atol=1e-6 * d.max())
    assert other.trustworthiness == pytest.approx(chart.trustworthiness)


def test_trustworthiness_falls_when_strangers_come_near():
    places = points(20)
    shuffled = places[np.random.default_rng(3).permutation(20)]
    assert trustworthiness(distances(places), places) == 1
    assert trustworthiness(distances(places), 3 * places + 1) == 1
    assert trustworthiness(distances(places), shuffled) < 0.7
    assert math.isnan(trustworthiness(np.zeros((2, 2)), np.zeros((2, 1))))


def test_a_tree_is_recovered_exactly():
    d = ultrametric()
    tree = dendrogram(d)
    np.testing.assert_allclose(squareform(cophenet(tree.linkage)), d)
    assert tree.correlation == pytest.approx(1)
    assert tree.linkage[:, 2].tolist() == [1, 2, 6, 9]


def test_a_tree_does_not_depend_on_the_order_of_the_models():
    order = [3, 1, 4, 0, 2]
    d = ultrametric()[np.ix_(order, order)]
    np.testing.assert_allclose(squareform(cophenet(dendrogram(d).linkage)), d)


def test_leaves_are_ordered_so_that_neighbours_are_nearest():
    d = distances(points(7, 1, seed=4))
    tree = dendrogram(d)
    along = sum(d[a, b] for a, b in pairwise(tree.order))
    assert sorted(tree.order) == list(range(7))
    assert along == pytest.approx(min(sum(d[a, b] for a, b in pairwise(p)) for p in permutations(range(7))))


def test_nearest_are_sorted_and_leave_out_the_model_itself_and_what_is_missing():
    d = distances(np.array([[0.0], [5], [1], [3]]))
    assert nearest(d, 0) == [(2, 1.0), (3, 3.0), (1, 5.0)]
    assert nearest(d, 3, 1) == [(1, 2.0)]
    d[0, 2] = d[2, 0] = math.nan
    assert nearest(d, 0) == [(3, 3.0), (1, 5.0)]


def test_a_metric_violates_no_triangle_and_a_raised_side_does():
    d = distances(points())
    found = triangles(d)
    assert (found.triples, found.violations, found.beyond_error) == (220, 0, None) and found.worst_ratio <= 1
    d[2, 7] = d[7, 2] = 10_000
    found = triangles(d, np.full_like(d, 1.0))
    assert found.violations == found.beyond_error == 10
    best = min((d[2, j] + d[j, 7], j) for j in range(12) if j not in (2, 7))
    assert found.worst == (2, best[1], 7) and found.worst_ratio == pytest.approx(10_000 / best[0])
    assert triangles(d, np.full_like(d, 9000.0)).beyond_error == 0


def test_a_line_is_no_violation_by_round_off_and_two_models_have_no_triangle():
    d = distances(np.array([[0.0], [0.1], [0.3], [0.7]]))
    assert triangles(d).violations == 0 and triangles(d).worst_ratio == pytest.approx(1)
    assert triangles(d[:2, :2]).worst is None


def test_copies_at_no_distance_are_compared_without_division_by_zero():
    assert triangles(np.zeros((3, 3))).worst_ratio == 1
    d = np.array([[0, 0, 1.0], [0, 0, 0], [1, 0, 0]])
    assert triangles(d).violations == 1 and triangles(d).worst_ratio == math.inf


def test_triplets_of_two_groups_are_all_right_and_of_noise_half():
    d, group = distances(np.array([[0.0], [1], [2], [50], [51], [52]])), [0, 0, 0, 1, 1, 1]
    assert triplet_accuracy(d, lambda a, b: group[a] == group[b]) == (1.0, 36)
    assert triplet_accuracy(np.ones((6, 6)), lambda a, b: group[a] == group[b]) == (0.5, 36)
    assert math.isnan(triplet_accuracy(d, lambda a, b: True)[0])
    other = [0, 1, 2, 0, 1, 2]  # nearer to the same other than to the same group: never
    share, count = triplet_accuracy(d, lambda a, b: other[a] == other[b], lambda a, b: group[a] == group[b])
    assert (share, count) == (0.0, 12)


def test_what_is_missing_is_refused_with_the_command_that_fills_it():
    d = distances(points(4))
    d[1, 2] = d[2, 1] = math.nan
    for measure in (isomap, dendrogram, triangles, Geometry.of):
        with pytest.raises(UnfitError, match=r"1 of 6 distances are missing.*models 1 and 2") as error:
            measure(d)
        assert "infodist matrix" in error.value.fix


@pytest.mark.parametrize(
    "bad", [np.ones((3, 3)), -distances(points(3)), np.triu(distances(points(3))), np.ones((2, 3))]
)
def test_what_is_no_distance_is_refused(bad):
    with pytest.raises(UnfitError):
        dendrogram(bad)


def test_a_map_needs_more_models_than_dimensions_and_two_or_three_of_these():
    assert isomap(distances(points(3))).points.shape == (3, 2)
    with pytest.raises(UnfitError, match="at least 4 models"):
        isomap(distances(points(3)), 3)
    with pytest.raises(UsageError, match="4 dimensions"):
        isomap(distances(points(9)), 4)


def test_a_geometry_is_json_and_has_a_map_in_space_from_four_models_on():
    fields = json.loads(json.dumps(Geometry.of(distances(points(5))).to_dict(), allow_nan=False))
    assert len(fields["map_3d"]["points"]) == 5 and sorted(fields["tree"]["order"]) == [0, 1, 2, 3, 4]
    assert "map_3d" not in Geometry.of(distances(points(3))).to_dict()
