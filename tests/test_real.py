"""Real checkpoints on real images, through the command line, and what their distances must satisfy."""

import copy
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from realdata import build_or_skip

from hf_infodist import load_classifier, rank_checkpoints
from hf_infodist.pair import Execution

ROOT = Path(__file__).parent.parent
INFODIST = Path(sys.executable).parent / "infodist"


def compare(a, b, images, *options):
    command = [INFODIST, "compare", a, b, "--images", images, "--json", *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def baselines(a, b, images, *options):
    command = [INFODIST, "baselines", a, b, "--images", images, "--json", *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(row["space"], row["name"]): row["value"] for row in json.loads(done.stdout)["baselines"]}


def nats(*words):
    return compare(*words)["distance"]["nats"]


def apart(text):
    """Words of a text, and the numbers between them."""
    return re.split(r"\d[\d.,]*", text), [float(one.rstrip(".")) for one in re.findall(r"\d[\d.]*", text)]


@pytest.mark.slow  # .ci/run runs the demo itself, too
def test_demo_runs_offline_and_says_what_the_number_means():
    done = subprocess.run([INFODIST, "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (shown,) = re.findall(r"```\n(demo:cnn and demo:vit on.*?)```", (ROOT / "README.md").read_text(), re.S)
    told, here = ([re.split(r"[-+\d.,±]+", text), re.findall(r"\d[\d.]*", text)] for text in (shown, done.stdout))
    assert told[0] == here[0]  # to the letter, and the numbers up to their last digits
    assert [float(one.strip(".")) for one in told[1]] == pytest.approx(
        [float(one.strip(".")) for one in here[1]], rel=0.03
    )


@pytest.mark.slow
def test_the_neighbours_that_the_readme_shows_are_those_that_are_measured():
    page = (ROOT / "hf_infodist" / "analysis" / "README.md").read_text()
    (shown,) = re.findall(r"```\n(nearest to demo:cnn,.*?)```", page, re.S)
    done = subprocess.run(
        [INFODIST, "nearest", "demo:cnn", "demo:vit", "random:demo:cnn", "-i", "digits", "-k", "200"],
        capture_output=True,
        text=True,
        check=False,
    )
    (told, numbers), (here, measured) = apart(shown), apart(done.stdout)
    assert done.returncode == 0 and told == here and numbers == pytest.approx(measured, rel=0.03)


def test_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    assert namespace["result"].nats > 0 and "bits per image" in capsys.readouterr().out


@pytest.mark.slow
def test_a_dead_hub_is_told_from_a_typo(tmp_path):
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    command = [str(INFODIST), "compare", "acme/nothing", "demo:cnn", "-i", "digits"]
    done = subprocess.run(command, env=os.environ | online, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "reach" in done.stderr and "did you mean" not in done.stderr


@pytest.mark.slow
def test_one_task_learnt_twice_is_nearer_than_another_task_and_a_fresh_network_is_farthest():
    first, second, a, b, images = map(
        build_or_skip, ("fashion-all-0", "fashion-all-1", "fashion-a", "fashion-b", "fashion-test.parquet")
    )
    same_task = nats(first, second, images, "-k", "500")
    other_task = nats(a, b, images, "-k", "500")
    fresh = nats(first, f"random:{first}", images, "-k", "500")
    assert 0 < same_task < other_task < fresh


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "k", "share"),
    [
        ("standard", 500, 0.3),
        ("thorough", 500, 0.3),
        ("blockwise", 500, 0.75),
        ("sampled", 500, 0.75),
        ("paper", 1000, 0.85),  # one pass learns least
    ],
)
def test_learning_the_other_half_of_the_classes_beats_knowing_nothing(protocol, k, share):
    a, b, images = map(build_or_skip, ("fashion-a", "fashion-b", "fashion-test.parquet"))
    result = compare(a, b, images, "-k", str(k), "-p", protocol)
    for direction in ("a_given_b", "b_given_a"):
        assert result[direction]["nats"] < share * result[direction]["static_nats"]


@pytest.mark.slow
def test_imagenet_checkpoints_know_each_other_on_photographs():
    lite0, lite1, lite2, photos = map(build_or_skip, ("lite0", "lite1", "lite2", "photos.parquet"))
    known = compare(lite0, lite1, photos, "-k", "128", "-p", "standard")
    assert known["model_a"]["num_classes"] == 1000 and known["images"]["k"] == 128
    assert (
        known["distance"]["nats"]
        < compare(lite0, f"random:{lite1}", photos, "-k", "128", "-p", "standard")["distance"]["nats"]
    )
    assert nats(lite2, lite2, photos, "-k", "128", "-p", "paper") == 0.0


@pytest.mark.slow
def test_baselines_see_one_task_in_features_and_outputs_but_not_in_weights():
    first, second, a, b, images = map(
        build_or_skip, ("fashion-all-0", "fashion-all-1", "fashion-a", "fashion-b", "fashion-test.parquet")
    )
    same_task, other_task = baselines(first, second, images, "-k", "500"), baselines(a, b, images, "-k", "500")
    for name in ("linear CKA", "debiased CKA", "RSA", "k-NN Jaccard", "second-order cosine"):
        assert same_task["representation", name] > other_task["representation", name]
    assert same_task["representation", "Procrustes"] < other_task["representation", "Procrustes"]
    assert same_task["parameter", "cosine"] < 0.1 < other_task["parameter", "cosine"]  # a and b share their start
    assert other_task["output", "KL(A‖B)"] is None and 0 < same_task["output", "disagreement"] < 0.2


@pytest.mark.slow
def test_baselines_of_imagenet_checkpoints_tell_a_trained_network_from_a_fresh_one():
    lite0, lite1, photos = map(build_or_skip, ("lite0", "lite1", "photos.parquet"))
    known = baselines(lite0, lite1, photos, "-k", "128")
    fresh = baselines(lite0, f"random:{lite1}", photos, "-k", "128")
    assert known["parameter", "L2"] is None
    for name in ("debiased CKA", "RSA", "k-NN Jaccard"):
        assert known["representation", name] > 2 * fresh["representation", name]
    for name in ("KL(A‖B)", "KL(B‖A)", "Jensen-Shannon", "disagreement"):
        assert known["output", name] < fresh["output", name]


class Clock:
    """Counts the images that a network is run on, and the processor's seconds of the same passes of a bare copy.

    Who runs second finds images and memory at hand: now the copy does, now the network.
    """

    def __init__(self, network):
        self.bare, self.batches, self.images, self.seconds = copy.deepcopy(network).eval(), 0, 0, 0.0
        network.register_forward_pre_hook(lambda network, inputs: self._run(inputs, after=False))
        network.register_forward_hook(lambda network, inputs, output: self._run(inputs, after=True))

    def _run(self, inputs, *, after):
        if self.batches % 2 == after:
            started = time.process_time()  # which does not count what runs beside
            self.bare(inputs[0])
            self.seconds += time.process_time() - started
        if after:
            self.batches += 1
            self.images += len(inputs[0])


@pytest.mark.slow
def test_candidates_take_little_longer_than_their_forward_passes(tmp_path):
    """EfficientNet-Lite0 and others with other heads, 1000 labelled photographs."""
    lite0, photos = map(build_or_skip, ("lite0", "photos.parquet"))
    first = load_classifier(str(lite0))
    candidates = [copy.deepcopy(first) for _ in range(3)]
    for i, candidate in enumerate(candidates):
        (head,) = (candidate.network.get_submodule(name) for name in candidate.heads)
        head.weight.data += 0.01 * i
    rank_checkpoints([first, candidates[1]], str(photos), label="photo", k=16, execution=Execution(home=tmp_path))
    clocks = [Clock(candidate.network.module) for candidate in candidates]
    started = time.process_time()  # libraries are loaded
    rank_checkpoints(candidates, str(photos), label="photo", k=1000, execution=Execution(home=tmp_path))
    passes = sum(clock.seconds for clock in clocks)
    seconds = time.process_time() - started - passes
    print(f"{seconds:.0f} s, forward passes {passes:.1f} s")  # noqa: T201
    assert all(1000 <= clock.images <= 1010 for clock in clocks)  # some two to learn which layers there are
    assert seconds < 1.3 * passes
