"""Curves in trackers: those of the result, while it is being computed, and without a change to it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from test_hub import command

from hf_infodist.cli import main
from hf_infodist.distances.distance import distance_of_pair
from hf_infodist.distances.tracking import Curves
from hf_infodist.images.request import Sample
from hf_infodist.pair import Execution, prepare_pair
from hf_infodist.protocol import resolve_protocol
from hf_infodist.results.words import to_bits

PAIR = ["compare", "demo:cnn", "demo:vit", "-i", "digits", "-k", "96"]
RUNS = {"a_given_b": "demo:cnn given demo:vit", "b_given_a": "demo:vit given demo:cnn"}


@pytest.fixture
def environment(tmp_path):
    """Where one user's store and trackers are."""
    return {"INFODIST_HOME": str(tmp_path / "store"), "HF_HOME": str(tmp_path / "hf")}


def infodist(environment, *words, rc=0):
    return command(environment, sys.executable, "-m", "hf_infodist.cli", *words, rc=rc)


def in_tensorboard(environment, name="bits"):
    """Read the points of both runs from TensorBoard's files, by direction."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = {}
    for direction, run in RUNS.items():
        for folder in Path(environment["INFODIST_HOME"], "tensorboard").glob(f"*/{run.replace(':', '_')}"):
            events = EventAccumulator(str(folder), {"scalars": 0})
            events.Reload()
            points[direction] = [(event.step, event.value) for event in events.Scalars(name)]
    return points


def in_trackio(environment, direction):
    words = ["get", "metric", "--project", "infodist", "--run", RUNS[direction], "--metric", "bits", "--json"]
    shown, _ = command(environment, sys.executable, "-m", "trackio.cli", *words)
    return [(point["step"], point["value"]) for point in json.loads(shown)["values"]]


def curve(result, direction):
    return [(images, to_bits(nats)) for images, nats in result[direction]["curve"]]


def same(points, wanted):
    assert [step for step, _ in points] == [step for step, _ in wanted]
    return [value for _, value in points] == pytest.approx([value for _, value in wanted], rel=1e-5)


def test_each_point_is_there_before_the_next_block_and_the_number_stays_the_same(environment, monkeypatch):
    monkeypatch.setenv("INFODIST_HOME", environment["INFODIST_HOME"])
    pair, protocol = prepare_pair("demo:cnn", "demo:vit", Sample("digits", k=96)), resolve_protocol("standard")
    wanted = {direction: [] for direction in RUNS}

    def check(direction, images, nats):
        wanted[direction].append((images, to_bits(nats)))
        assert same(in_tensorboard(environment)[direction], wanted[direction])

    with Curves(["tensorboard"], pair, protocol, check) as curves:
        logged = distance_of_pair(pair, protocol, on_block=curves)
        curves.complete({"a_given_b": logged.a_given_b, "b_given_a": logged.b_given_a})
    plain = distance_of_pair(pair, protocol, execution=Execution(fresh=True))
    assert (logged.a_given_b.nats, logged.b_given_a.nats) == (plain.a_given_b.nats, plain.b_given_a.nats)
    assert {name: len(points) for name, points in in_tensorboard(environment).items()} == dict.fromkeys(RUNS, 3)


@pytest.mark.slow
def test_both_curves_are_those_of_the_result_which_stays_the_same(environment, tmp_path):
    logged = "--log-with", "tensorboard", "--log-with", "trackio"
    shown, _ = infodist(environment, *PAIR, *logged, "--json")
    result = json.loads(shown)  # and nothing that a tracker prints
    plain = json.loads(infodist(environment, *PAIR, "--fresh", "--json")[0])
    assert all(result[part]["nats"] == plain[part]["nats"] for part in ("distance", *RUNS))
    for direction, points in in_tensorboard(environment).items():
        assert len(points) >= 3 and same(points, curve(result, direction))
        assert same(in_trackio(environment, direction), curve(result, direction))
    for direction, points in in_tensorboard(environment, "bits_per_image").items():
        assert points[-1] == (96, pytest.approx(to_bits(result[direction]["nats_per_image"]), rel=1e-5))
    shutil.rmtree(tmp_path / "store" / "tensorboard")
    infodist(environment, *PAIR, "--log-with", "tensorboard")  # from the store
    assert all(same(points, curve(result, direction)) for direction, points in in_tensorboard(environment).items())
    assert set(in_tensorboard(environment)) == set(RUNS)


@pytest.mark.slow
def test_several_orders_have_their_mean_curve(environment):
    shown, _ = infodist(environment, *PAIR, "--orders", "2", "--log-with", "tensorboard", "--json")
    for direction, points in in_tensorboard(environment).items():
        assert same(points, curve(json.loads(shown), direction))


@pytest.mark.slow
def test_each_of_two_processes_logs_the_direction_that_it_codes(environment, tmp_path):
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    output = tmp_path / "result.json"
    command(environment, *two, "-m", "hf_infodist.cli", *PAIR, "--log-with", "tensorboard", "-o", output)
    logged = in_tensorboard(environment)
    assert set(logged) == set(RUNS)
    assert all(same(points, curve(json.loads(output.read_text()), name)) for name, points in logged.items())


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--workers", "2"), ("--workers", "2", "--data-parallel")])
def test_a_run_that_trains_logs_the_end_of_each_block_once(environment, words):
    """Whether one process codes both directions, each of two codes one, or both share every batch."""
    shown, _ = infodist(environment, *PAIR, "-p", "single", *words, "--log-with", "tensorboard", "--json")
    result, files = json.loads(shown), list(Path(environment["INFODIST_HOME"], "tensorboard").rglob("events.*"))
    assert sorted(file.parent.name for file in files) == sorted(run.replace(":", "_") for run in RUNS.values())
    for direction, points in in_tensorboard(environment).items():
        assert [step for step, _ in points] == [32, 64, 96] and same(points, curve(result, direction))
    for direction, points in in_tensorboard(environment, "bits_per_image").items():
        assert same(points, [(images, bits / images) for images, bits in curve(result, direction)])


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_in_the_same_curve(environment, monkeypatch):
    class Cut(Exception):
        pass

    def cut(direction, images, nats):
        if (direction, images) == ("b_given_a", 64):
            raise Cut

    for name in ("_LEAST_SECONDS", "_SHARE"):
        monkeypatch.setattr(f"hf_infodist.coding.checkpoints.{name}", 0.0)
    monkeypatch.setenv("INFODIST_HOME", environment["INFODIST_HOME"])
    pair, protocol = prepare_pair("demo:cnn", "demo:vit", Sample("digits", k=96)), resolve_protocol("single")
    with pytest.raises(Cut), Curves(["tensorboard"], pair, protocol, cut) as curves:
        distance_of_pair(pair, protocol, on_block=curves)
    with Curves(["tensorboard"], pair, protocol) as curves:
        code = distance_of_pair(pair, protocol, on_block=curves)
        curves.complete({"a_given_b": code.a_given_b, "b_given_a": code.b_given_a})
    for direction, points in in_tensorboard(environment).items():
        assert same(points, [(images, to_bits(nats)) for images, nats in getattr(code, direction).curve(96)])


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([*PAIR, *words])
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_a_tracker_that_is_not_there_is_refused_before_anything_is_loaded(capsys, monkeypatch):
    what, _, fix = refused(capsys, "--log-with", "tensorbord")
    assert "no tracker 'tensorbord'" in what and fix == "use --log-with tensorboard"
    monkeypatch.setattr("hf_infodist.cli.trackers.find_spec", lambda name: None)
    what, _, fix = refused(capsys, "--log-with", "wandb")
    assert "wandb is not installed" in what and fix == "type pip install wandb"
