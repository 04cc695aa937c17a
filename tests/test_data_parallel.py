"""Two processes that share each batch: the number of one, half of the activations each, and all that one can do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import two_processes
from two_processes import RUNS, Watched, nats

from hf_infodist import processes
from hf_infodist.coding import trainer
from hf_infodist.coding.checkpoints import Checkpoints
from hf_infodist.processes import ProcessTeam

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = Path(two_processes.__file__)
    done = subprocess.run([*two, script, folder], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def both(folder):
    return [json.loads((folder / f"{index}.json").read_text()) for index in range(2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return two_processes.pair(tmp_path_factory.mktemp("one"))


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(trainer, "FineTuned", Watched)


@pytest.mark.parametrize("name", RUNS)
def test_the_number_is_that_of_one_process_and_the_same_on_both(made, both, watched, name):
    alone = nats(made, RUNS[name])
    assert both[0][name]["image_nats"] == both[1][name]["image_nats"]
    assert both[0][name]["image_nats"] == pytest.approx(alone["image_nats"], rel=1e-6, abs=1e-9)
    assert sum(both[0][name]["image_nats"]) == pytest.approx(sum(alone["image_nats"]), rel=1e-6)


def test_images_and_their_activations_are_shared(made, both, watched):
    alone = nats(made, RUNS["frozen"])["seen"]
    pairs = zip(alone, both[0]["frozen"]["seen"], both[1]["frozen"]["seen"], strict=True)
    for (images, kept), first, second in pairs:
        assert (first[0], second[0]) == (-(-images // 2), images // 2)
        assert first[1] == pytest.approx(kept * first[0] / images) and first[1] + second[1] == kept


def test_a_batch_whose_statistics_are_needed_is_not_shared(made, both, watched):
    alone = nats(made, RUNS["adapting"])
    for one in both:
        assert one["adapting"]["image_nats"] == alone["image_nats"]
        assert [tuple(seen) for seen in one["adapting"]["seen"]] == alone["seen"]


@pytest.mark.parametrize("name", ["frozen", "adapting"])
def test_a_run_that_was_cut_off_ends_with_the_same_bits(both, name):
    for one in both:
        assert one[f"{name}, resumed"]["image_nats"] == one[name]["image_nats"]
        assert 0 < len(one[f"{name}, resumed"]["seen"]) < len(one[name]["seen"])


def test_one_process_goes_on_where_two_have_stopped(made, both, folder, watched):
    resumed = nats(made, RUNS["frozen"], checkpoints=Checkpoints(folder / "left", "key", ProcessTeam()))
    assert len(resumed["seen"]) < len(both[0]["frozen"]["seen"])
    assert np.allclose(resumed["image_nats"], both[0]["frozen"]["image_nats"], rtol=1e-6, atol=1e-9)


def test_gradients_are_sent_in_pieces(both):
    gradients = [torch.ones(numel) for numel in (20, 30, 1, 90, 10)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "SENT_NUMBERS", 50)
        sizes = [[tensor.numel() for tensor in piece] for piece in processes._pieces(gradients)]
    assert sizes == [[20, 30], [1], [90], [10]]
    assert all(one["frozen, in pieces"]["image_nats"] == one["frozen"]["image_nats"] for one in both)


def test_where_memory_runs_out_in_one_of_them_both_go_on(both):
    for one in both:
        assert one["frozen, short"]["image_nats"] == one["frozen"]["image_nats"]
    assert len(both[1]["frozen, short"]["seen"]) == len(both[1]["frozen"]["seen"]) + 1  # the step made again
    assert len(both[0]["frozen, short"]["seen"]) == len(both[0]["frozen"]["seen"])
