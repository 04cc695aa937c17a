"""Three workers on one folder, killed again and again: nothing is lost, and nothing finished is done twice."""

import collections
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest

from hf_infodist.coding import checkpoints
from hf_infodist.distances import code
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution

MODELS = ("demo:cnn", "demo:vit", "random:demo:cnn", "random:demo:vit")
K, KILLS, WORKERS = 96, 8, 3
FORK = multiprocessing.get_context("fork")  # a worker is there at once: most kills meet it at its work


def fill(home, log):
    """Compute the matrix as the command does, with a checkpoint and a line of the log for every block."""
    checkpoints._LEAST_SECONDS = checkpoints._SHARE = 0.0
    train = code.train_codelength
    line = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def logged(pair, direction, *args, on_block, **options):
        (student, _), (teacher, _) = pair.ends(direction)

        def write(images, nats):
            os.write(line, f"{os.getpid()} {teacher.id} {student.id} {images}\n".encode())  # its checkpoint is there
            on_block(images, nats)

        return train(pair, direction, *args, on_block=write, **options)

    code.train_codelength = logged
    pairwise_distances(MODELS, "digits", k=K, protocol="thorough", execution=Execution(home=home))
    os._exit(0)


def started(*args):
    process = FORK.Process(target=fill, args=args)
    process.start()
    return process


def blocks(log):
    return log.read_text() if log.exists() else ""


def read(home):
    """Return the matrix that a folder holds; nothing is computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "train_codelength", lambda *args, **options: pytest.fail("something is missing"))
        return pairwise_distances(MODELS, "digits", k=K, protocol="thorough", execution=Execution(home=home))


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_bits_and_no_block_is_priced_twice(tmp_path):
    for name in MODELS:
        load_classifier(name)  # here, so that workers need not import the libraries
    whole = started(tmp_path / "whole", tmp_path / "whole.log")
    whole.join()
    rng, kills, killed, log = random.Random(0), 0, tmp_path / "killed", tmp_path / "killed.log"
    workers = [started(killed, log) for _ in range(WORKERS)]
    seconds = time.monotonic()
    while any(worker.is_alive() for worker in workers):
        number = rng.randrange(WORKERS)
        time.sleep(rng.uniform(0.0, 0.5))
        if kills < KILLS and workers[number].is_alive() and f"{workers[number].pid} " in blocks(log):
            os.kill(workers[number].pid, signal.SIGKILL)  # it has priced something, and is at the next
            workers[number].join()
            workers[number] = started(killed, log)
            kills += 1
    print(f"{kills} kills, {time.monotonic() - seconds:.0f} s")  # noqa: T201
    assert kills > 5 and all(worker.exitcode == 0 for worker in workers)
    first, second = read(tmp_path / "whole"), read(killed)
    assert first.complete and first.nats.tobytes() == second.nats.tobytes()
    assert np.array_equal(first.stderr_nats, second.stderr_nats, equal_nan=True)
    priced, expected = (
        collections.Counter(line.partition(" ")[2] for line in blocks(path).splitlines())
        for path in (log, tmp_path / "whole.log")
    )
    print(f"{len(expected)} blocks, {len(priced)} logged, {max(priced.values())} times at most")  # noqa: T201
    assert set(priced) <= set(expected) and max(priced.values()) == 1
    assert not list((killed / "runs").glob("*.claim")) and not list((killed / "runs").glob("*.failed"))
