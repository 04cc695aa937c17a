"""A run that is cut off goes on to the same bits; what cannot be gone on from is refused, and nothing is lost."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_images, transform

from hf_infodist.coding import checkpoints, keys
from hf_infodist.coding.loop import Coding
from hf_infodist.distances.distance import information_distance
from hf_infodist.errors import UnfitError
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution


class Cut(Exception):
    pass


@pytest.fixture(autouse=True)
def at_every_block(monkeypatch):
    monkeypatch.setattr(checkpoints, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "_SHARE", 0.0)


@pytest.fixture(scope="module")
def images():
    return noise_images(160)


def distance(images, protocol, on_block=None, labels=None, **options):
    a = load_classifier(SmallNet(batchnorm=True, dtype=torch.float32), transform=transform, labels=labels and "abcde")
    b = load_classifier(SmallNet(seed=1, batchnorm=True, dtype=torch.float32), transform=transform, labels=labels)
    return information_distance(a, b, images, protocol=protocol, on_block=on_block, **options)


def cut_after(blocks):
    """Return a progress callback that ends the run after so many blocks, and the list of what it has seen."""
    seen = []

    def on_block(direction, priced, nats):
        seen.append((direction, priced))
        if len(seen) == blocks:
            raise Cut

    return on_block, seen


@pytest.mark.parametrize(  # every kind of state there is
    "name", ["thorough", "single", *(pytest.param(name, marks=pytest.mark.slow) for name in ("blockwise", "standard"))]
)
def test_a_run_cut_off_twice_ends_with_the_same_bits(images, name, tmp_path):
    whole = distance(images, name, execution=Execution(home=tmp_path / "whole"))
    on_block, seen = cut_after(3)
    for _ in range(2):
        seen.clear()
        with pytest.raises(Cut):
            distance(images, name, on_block)
    priced = []
    resumed = distance(images, name, lambda *block: priced.append(block[:2]))
    assert np.array_equal(resumed.a_given_b.image_nats, whole.a_given_b.image_nats)
    assert np.array_equal(resumed.b_given_a.image_nats, whole.b_given_a.image_nats)
    assert [vars(j) for j in resumed.b_given_a.learners] == [vars(j) for j in whole.b_given_a.learners]
    assert not set(seen) & set(priced)  # nothing is priced again


@pytest.mark.slow
def test_a_student_whose_head_was_reordered_goes_on(images, tmp_path):
    """Its head differs from that of a fresh start."""
    options = {"labels": "vwxyz", "k": 100}
    whole = distance(images, "standard", execution=Execution(home=tmp_path / "whole"), **options)
    with pytest.raises(Cut):
        distance(images, "standard", cut_after(4)[0], **options)
    assert np.array_equal(distance(images, "standard", **options).b_given_a.image_nats, whole.b_given_a.image_nats)


def test_checkpoints_are_gone_when_the_result_is_there(images, store):
    distance(images, "thorough")
    assert list((store / "runs").iterdir()) == []


def test_nothing_is_written_once_the_claim_is_lost(images, store, monkeypatch):
    lost = []
    monkeypatch.setattr(checkpoints.Claim, "held", property(lambda claim: not lost))

    def on_block(direction, priced, nats):
        lost.append(priced)
        if len(lost) == 4:
            raise Cut

    with pytest.raises(Cut):
        distance(images, "thorough", on_block)
    (first,) = (store / "runs").glob("*/*/manifest.json")
    assert int(first.parent.name) == lost[0] < lost[3]


def test_checkpoints_are_left_to_the_same_comparison_only(images):
    with pytest.raises(Cut):
        distance(images, "thorough", cut_after(2)[0])
    for change in ({"seed": 1}, {"k": 100}, {"labels": "vwxyz"}):
        on_block, seen = cut_after(1)
        with pytest.raises(Cut):
            distance(images, "thorough", on_block, **change)
        assert seen[0][1] == 16


def test_a_checkpoint_that_earlier_code_began_is_left_alone(images, store, monkeypatch):
    """It does not tell which labels were hit."""
    with monkeypatch.context() as earlier:
        state = Coding.state_dict
        earlier.setattr(keys, "STATE_VERSION", 1)
        earlier.setattr(Coding, "state_dict", lambda run: without(state(run), "image_hits"))
        with pytest.raises(Cut):
            distance(images, "sampled", cut_after(2)[0])
    (old,) = (store / "runs").glob("*/*/manifest.json")
    whole = distance(images, "sampled")
    assert old.exists() and len(whole.a_given_b.image_hits) == len(images)


def without(fields, name):
    return {other: value for other, value in fields.items() if other != name}


def cut_run(images, store):
    with pytest.raises(Cut):
        distance(images, "thorough", cut_after(2)[0])
    (run,) = [path for path in (store / "runs").iterdir() if path.is_dir()]
    (checkpoint,) = run.iterdir()
    return run, checkpoint


def flip_a_bit(run, checkpoint):
    path = next(checkpoint.glob("learner-*.pt"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose_a_file(run, checkpoint):
    next(checkpoint.glob("learner-*.pt")).unlink()


def cut_the_manifest(run, checkpoint):
    path = checkpoint / "manifest.json"
    path.write_text(path.read_text()[:-9])


def take_a_foreign_one(run, checkpoint):
    path = checkpoint / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 32}))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        take_a_foreign_one,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (lose_a_file, cut_the_manifest)),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_refused_and_kept(images, store, damage):
    run, checkpoint = cut_run(images, store)
    damage(run, checkpoint)
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}
    with pytest.raises(UnfitError, match="cannot be gone on from") as error:
        distance(images, "thorough")
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert error.value.fix == f"to start again, move it away: mv {run} {run}.old"
    shutil.move(run, f"{run}.old")
    assert distance(images, "thorough").nats > 0


def test_a_half_written_checkpoint_is_passed_over(images, store, tmp_path):
    run, checkpoint = cut_run(images, store)
    half = run / ".new-99"
    shutil.copytree(checkpoint, half)
    next(half.glob("learner-*.pt")).write_bytes(b"half")
    whole = distance(images, "thorough", execution=Execution(home=tmp_path / "whole", resume=False))
    assert np.array_equal(distance(images, "thorough").b_given_a.image_nats, whole.b_given_a.image_nats)


def test_a_second_run_of_the_same_comparison_leaves_no_checkpoints(images, caplog):
    inner = []

    def on_block(*block):
        if not inner:
            inner.append(distance(images, "thorough"))

    outer = distance(images, "thorough", on_block)
    assert "is running elsewhere" in caplog.text
    assert inner[0].nats == outer.nats


LONG = ("-i", "digits", "-k", "900", "-p", "thorough", "--json")
COMPARE, TRANSFER = ("compare", "demo:cnn", "demo:vit", *LONG), ("transfer", "demo:cnn", "random:demo:vit", *LONG)
COMMANDS = {  # and what they say when they begin to compute
    "one": (COMPARE, b"gradient images"),
    "two": ((*COMPARE, "--workers", "2"), b"gradient images"),
    "labels": (TRANSFER, b"learning from"),
}


def start(home, words):
    command, environment = [sys.executable, "-m", "hf_infodist.cli", *words], os.environ | {"INFODIST_HOME": str(home)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def codes(out):
    result = json.loads(out)
    found = result.get("models") or [result[direction] for direction in ("a_given_b", "b_given_a")]
    return [(one["nats"], one["curve"]) for one in found]


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS)
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path, case):
    words, computing = COMMANDS[case]
    whole = codes(start(tmp_path / "whole", words).communicate()[0])
    rng, kills, went_on, over = random.Random(0), 0, 0, False
    while not over:
        with start(tmp_path / "killed", words) as process:
            said = []  # until it computes, or ends: the last kill may have come after the answer was stored
            while (line := process.stderr.readline()) and computing not in line:
                said.append(line)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 10))
            over = process.poll() is not None or kills == 6
            if not over:
                for child in _children(process.pid):
                    os.kill(child, signal.SIGKILL)
                process.kill()
                kills += 1
            out, rest = process.communicate()
            errors = b"".join([*said, line, rest])
            went_on += b"going on from" in errors
    assert process.returncode == 0, errors
    assert kills > 0 and went_on > 0
    assert codes(out) == whole


def _children(pid):
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    children = [int(word) for word in listing.split()]
    return [grandchild for child in children for grandchild in _children(child)] + children
