"""The study `paired_errors`: errors that hold cover what they promise, others do not, and a whole small run."""

import json

import numpy as np
import pytest

from hf_infodist.cli import main
from hf_infodist.results.difference import Difference, difference_of_distances
from hf_infodist.studies import paired_errors
from hf_infodist.studies.measures.coverage import coverage, exchanged
from hf_infodist.studies.paired_errors import covered, differences, found_nearest, unpaired


def prices(rng, samples=30, models=4, k=150, shared=1.0):
    """Images that are hard for all, and more or less so for each pair; farther from model 0 the larger the number."""
    level = 0.1 * (1 + abs(np.subtract.outer(np.arange(models), np.arange(models)))) + 0.05 * np.eye(models)[0]
    hard = shared * rng.exponential(size=(samples, 1, 1, k)) + rng.exponential(size=(samples, models, models, k))
    return level[..., None] * hard * (1 - np.eye(models))[..., None]


def test_paired_errors_cover_what_they_promise_and_unpaired_ones_too_much():
    found = covered(prices(np.random.default_rng(0), shared=2.0))
    assert 0.63 < found["paired"]["within one error"] < 0.75
    assert 0.93 < found["paired"]["within two errors"] < 0.98
    assert found["unpaired"]["within two errors"] > 0.985
    assert found["paired"]["error / spread over samples"] == pytest.approx(1, abs=0.15)
    assert found["unpaired"]["error / spread over samples"] > 1.15


def test_what_whole_samples_have_in_common_is_not_covered_until_images_are_exchanged():
    rng = np.random.default_rng(0)
    found = covered(prices(rng) * (1 + 0.3 * rng.normal(size=(30, 4, 4, 1))))
    assert found["paired"]["within two errors"] < 0.8
    assert 0.92 < found["paired, images exchanged"]["within two errors"] < 0.98


def test_exchanging_keeps_every_price_at_its_place_and_models_together():
    before = np.random.default_rng(0).normal(size=(5, 2, 3, 7))
    after = exchanged(before, seed=1)
    assert not np.array_equal(before, after) and np.array_equal(
        np.sort(before, axis=0)[:, 0, 0], np.sort(after, 0)[:, 0, 0]
    )
    for image in range(7):
        assert {one.tobytes() for one in before[..., image]} == {one.tobytes() for one in after[..., image]}


def test_coverage_counts_and_knows_that_a_sample_is_part_of_its_mean():
    def row(error):
        return [Difference(nats, error) for nats in (-1.0, 0.0, 0.0, 1.0)]

    edge = 1 / np.sqrt(1 - 1 / 4)
    assert coverage([row(edge * 1.001)])["within one error"] == 1.0
    assert coverage([row(edge * 0.999)])["within one error"] == 0.5
    assert coverage([row(edge * 0.499)])["within two errors"] == 0.5
    assert coverage([row(1.0)])["error / spread over samples"] == pytest.approx(np.sqrt(3 / 2))


def test_every_model_is_asked_about_each_two_of_the_others():
    found = differences(prices(np.random.default_rng(0), samples=2), unpaired)
    assert len(found) == 4 * 3 and {len(row) for row in found} == {2}
    paired = differences(prices(np.random.default_rng(0), samples=2), difference_of_distances)
    assert [row[0].nats for row in paired] == pytest.approx([row[0].nats for row in found])


def test_the_nearest_is_found_where_it_is_clear_and_tied_where_chance_decides():
    rng = np.random.default_rng(0)
    clear = found_nearest(prices(rng, k=4000))
    assert clear["found nearest or tied"] > 0.97 and clear["smallest difference that counts / nearest distance"] < 0.2
    level = np.ones((4, 4, 1)) - np.eye(4)[..., None]
    even = found_nearest(level * rng.exponential(size=(30, 4, 4, 150)))
    assert 0.15 < even["found nearest"] < 0.55 and even["found nearest or tied"] > 0.9
    assert even["tied with the nearest, of the others"] > 0.85


@pytest.mark.slow
def test_the_study_runs_and_goes_on_where_it_stood(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "store"))
    monkeypatch.setattr(paired_errors, "ZOO", paired_errors.ZOO[:3])
    monkeypatch.chdir(tmp_path)
    words = [
        "study",
        "paired_errors",
        "--work",
        "work",
        "-k",
        "24",
        "--train",
        "100",
        "--epochs",
        "1",
        "--output",
        "out",
    ]
    for samples in ("2", "3"):
        with pytest.raises(SystemExit, match=r"^0$"):
            main([*words, "--samples", samples])
        kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "work" / "samples").iterdir()}
        assert len(kept) == int(samples)
    assert "3 samples of 24 images" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*words[:-2], "--samples", "2", "--shift", "10"])
    networks = {file.read_bytes() for file in (tmp_path / "work").rglob("model.safetensors")}
    samples = {file.read_bytes() for file in (tmp_path / "work").rglob("24-0.json")}
    assert len(networks) == 6 and len(samples) == 2  # networks of other seeds, and what is measured of them
    figures = json.loads((tmp_path / "out" / "paired_errors.json").read_text())
    assert figures["networks"] == ["resnet10-all", "vgg-bn-all", "vit-all"]
    assert figures["coverage"].keys() == {
        "paired",
        "paired, from all prices",
        "paired, images exchanged",
        "unpaired",
    }
    assert 0 <= figures["nearest"]["found nearest"] <= figures["nearest"]["found nearest or tied"] <= 1
