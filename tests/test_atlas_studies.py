"""Studies of atlases, at a size that takes seconds."""

import json

import numpy as np
import pytest

from hf_infodist.cli import main
from hf_infodist.studies.packing import compare

pytestmark = pytest.mark.slow


def test_a_made_up_model_is_nearest_to_its_own_family(tmp_path, capsys):
    words = ["--work", tmp_path, "-k", 60, "--models", 20, "--models", 45, "--classes", 8, "--all", 4]
    with pytest.raises(SystemExit) as stop:
        main(["study", "atlas", *map(str, words), "--output", str(tmp_path / "atlas.json")])
    assert not stop.value.code
    figures = json.loads((tmp_path / "atlas.json").read_text())
    assert figures == json.loads(capsys.readouterr().out)
    few, many = figures["placed"]
    assert (few["models"], many["models"]) == (20, 45) and few["peak_mib"] > 0
    assert all(one["model"].startswith("family-0/") for one in many["nearest"])
    assert few["nearest"] == many["nearest"]  # strangers change nothing
    each, days = figures["all_pairs"]["seconds_each_direction"], figures["all_pairs"]["days_of_all"]
    assert days == pytest.approx(each * 45 * 44 / 86400) and figures["all_pairs"]["peak_mib"] > 0


def test_an_atlas_changes_no_codelength_by_a_thousandth_and_coarse_steps_are_no_kernel():
    found = compare("demo:cnn", "random:demo:cnn", "digits", 60)
    assert np.abs(found["an atlas"]["away"]).max() < 1e-3
    assert np.isnan(found["256 steps of distance"]["away"]).any()
    assert found["256 steps of distance"]["bytes"] < found["an atlas"]["bytes"]
