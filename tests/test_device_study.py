"""The study of a device runs on a machine without a GPU, small, and says what it could not measure."""

import json

import pytest
import torch

from hf_infodist.cli import main
from hf_infodist.studies import device
from hf_infodist.studies.device import PARTS, Setting

SETTING = Setting(gpu=False, k=32, images=8, rounds=1)


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["study", "device", *words])
    assert not stop.value.code
    return json.loads(capsys.readouterr().out)


def test_without_a_gpu_it_measures_the_cpu_and_says_what_needs_one(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ("-k", "48", "--images", "8", "--rounds", "1", "--part", "precision", "--part", "trainer")
    figures = run(capsys, *words, "--output", str(tmp_path / "device.json"))
    assert json.loads((tmp_path / "device.json").read_text()) == figures
    assert any("k = 10 000" in line for line in figures["not_measured_without_a_gpu"])
    nats = figures["precision"]["demo:cnn, demo:vit"]
    assert nats["standard"].keys() == {"cpu float32"} and nats["thorough"].keys() == {"cpu float32", "cpu bf16"}
    full, mixed = (nats["paper"][f"cpu {mixed}"]["b_given_a"][0] for mixed in ("float32", "bf16"))
    assert full != mixed and full == pytest.approx(mixed, rel=0.1)
    race = figures["trainer"]["random:demo:cnn"]["8"]
    assert race["learner"] > 0 and race["learner_to_bare"] == pytest.approx(race["learner"] / race["bare"])
    assert race["learner_share_of_peak"] > 0 and "captured" not in race


def test_eleven_models_are_extrapolated_from_one_direction():
    figures = device.matrix(SETTING, thorough_direction=10.0)
    assert figures["directions"] == 12
    assert figures["thorough_seconds_expected"] == pytest.approx(figures["standard_seconds"] + 120)
    assert len({*device._LARGE, *device._MORE}) == 11


def test_a_part_that_fails_stops_no_other(monkeypatch):
    def broken(setting):
        raise RuntimeError("no such card")

    monkeypatch.setitem(PARTS, "trainer", broken)
    monkeypatch.setitem(PARTS, "together", lambda setting: {"learners": 2})
    assert device.measure(SETTING, ("together", "trainer")) == {
        "trainer": {"failed": "no such card"},
        "together": {"learners": 2},
    }


def test_stacked_networks_are_raced_against_each_alone():
    figures = device.stacked(SETTING)
    assert figures.pop("learners") == 3 and figures.keys() == {"width 32", "width 128", "width 512"}
    for one in figures.values():
        assert one["ratio"] == pytest.approx(one["stacked"] / one["one after the other"]) and one["ratio"] > 0


@pytest.mark.slow
def test_learners_in_processes_of_their_own_and_whole_comparisons_are_timed(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    figures = run(capsys, "-k", "32", "--images", "8", "--part", "together", "--part", "compare", "--part", "matrix")
    assert figures["together"]["random:demo:cnn"]["ratio"] > 0
    assert figures["compare"]["thorough"]["seconds"] > 0 and figures["matrix"]["thorough_seconds_expected"] > 0
