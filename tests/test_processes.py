"""Spreading the work over processes changes nothing but the time."""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_images, transform

from hf_infodist.coding.checkpoints import Checkpoints
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import prepare_pair
from hf_infodist.processes import ProcessTeam, make_accelerator, one_thread, spread
from hf_infodist.protocol import PROTOCOLS


@dataclass(frozen=True)
class ThreadTeam(ProcessTeam):
    """A team of threads: the same exchange as between processes, in one of them."""

    barrier: threading.Barrier | None = None
    board: dict = field(default_factory=dict)

    def merge(self, own):
        self.board[self.index] = own
        self.barrier.wait(60)
        merged = {key: value for index in range(self.size) for key, value in self.board[index].items()}
        self.barrier.wait(60)
        return merged


def in_threads(size, work):
    """Call ``work(team)`` in each of a team of threads and return what each gives."""
    barrier, board, results, errors = threading.Barrier(size), {}, {}, []

    def run(index):
        try:
            results[index] = work(ThreadTeam(size, index, None, barrier, board))
        except Exception as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return [results[index] for index in range(size)]


@pytest.fixture(scope="module")
def direction(tmp_path_factory):
    from hf_infodist.pair import Execution

    nets = [SmallNet(seed=seed, batchnorm=True, dtype=torch.float32) for seed in range(2)]
    a, b = (load_classifier(net, transform=transform) for net in nets)
    pair = prepare_pair(a, b, noise_images(160), execution=Execution(home=tmp_path_factory.mktemp("home")))
    return pair, "b_given_a"


@pytest.mark.parametrize(("name", "size"), [("thorough", 3), pytest.param("sampled", 2, marks=pytest.mark.slow)])
def test_a_team_codes_what_one_codes(direction, name, size):
    alone = train_codelength(*direction, PROTOCOLS[name])
    for code in in_threads(size, lambda team: train_codelength(*direction, PROTOCOLS[name], team=team)):
        assert np.array_equal(code.image_nats, alone.image_nats)
        assert code.learners == alone.learners


def test_a_team_spreads_the_learners_that_are_trained(direction, monkeypatch):
    from hf_infodist.coding import trainer as training

    made, fine_tuned = [], training.FineTuned
    monkeypatch.setattr(
        training, "FineTuned", lambda *args, **options: made.append(args[2].name) or fine_tuned(*args, **options)
    )
    in_threads(2, lambda team: train_codelength(*direction, PROTOCOLS["thorough"], team=team))
    names = [spec.name for spec in PROTOCOLS["thorough"].learners if spec.kind == "finetuned"]
    assert sorted(made) == sorted(names)  # each once


def test_a_team_keeps_one_checkpoint_that_a_team_of_another_size_goes_on_from(direction, tmp_path, monkeypatch):
    class Cut(Exception):
        pass

    monkeypatch.setattr("hf_infodist.coding.checkpoints._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("hf_infodist.coding.checkpoints._SHARE", 0.0)
    protocol, priced = PROTOCOLS["thorough"], []

    def begin(team):
        kept = Checkpoints(tmp_path / "run", "key", team)

        def on_block(images, nats):
            if images >= 96:
                raise Cut

        with pytest.raises(Cut):
            train_codelength(*direction, protocol, team=team, checkpoints=kept, on_block=on_block)

    in_threads(2, begin)
    kept = Checkpoints(tmp_path / "run", "key", ProcessTeam())
    resumed = train_codelength(
        *direction, protocol, checkpoints=kept, on_block=lambda images, nats: priced.append(images)
    )
    assert priced[0] > 96
    alone = train_codelength(*direction, protocol)
    assert np.array_equal(resumed.image_nats, alone.image_nats)
    assert resumed.learners == alone.learners


def test_one_process_does_all_tasks_in_order():
    done = []
    results = spread([3, 1, 2], lambda task, team: done.append(task) or (task * 10, team.size), make_accelerator())
    assert done == [3, 1, 2] and results == [(30, 1), (10, 1), (20, 1)]


def test_one_thread_computes_and_the_others_come_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread("cpu"):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def compare(*words, a="demo:cnn"):
    words = [a, "demo:vit", "-i", "digits", "--json", "--fresh", *words]
    command = [sys.executable, "-m", "hf_infodist.cli", "compare", *words]
    return subprocess.run(command, capture_output=True, text=True)


def nats(*words):
    done = compare(*words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    return [result[direction]["nats"] for direction in ("a_given_b", "b_given_a")]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_give_the_same_nats_as_one(processes):
    words = ("-k", "200", "--orders", "2") if processes == 3 else ("-k", "200")  # 3 share 4 runs unevenly
    assert nats(*words, "--workers", processes.__str__()) == pytest.approx(nats(*words), rel=1e-9)


@pytest.mark.slow
def test_processes_that_share_each_batch_agree_up_to_round_off():
    words = ("-k", "300", "-p", "single")  # one learner of frozen BatchNorm: all of its batches are shared
    assert nats(*words, "--workers", "2", "--data-parallel") == pytest.approx(nats(*words), rel=1e-4)


@pytest.mark.slow
def test_an_error_of_several_processes_is_told_once():
    done = compare("--workers", "2", a="demo:cnnn")
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.count("error:") == 1 and done.stderr.count("Traceback") == 0
    assert len(done.stderr.strip().splitlines()) <= 4  # one line says what is being loaded
