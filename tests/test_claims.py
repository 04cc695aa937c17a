"""A piece of work has one living owner; a dead one's claim is taken over, once."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from hf_infodist.results import claims
from hf_infodist.results.claims import Claim


@pytest.fixture
def path(tmp_path):
    return tmp_path / "claims" / "work"


def test_a_claim_has_one_holder_until_it_is_released(path):
    first, second = Claim(path), Claim(path)
    assert first.take() and not second.take()
    assert first.held and not second.held
    first.release()
    assert not first.held and second.take()
    second.release()
    assert not list(path.parent.iterdir())


def test_of_many_that_want_it_at_once_one_gets_it(path):
    wanting, barrier, got = [Claim(path) for _ in range(16)], threading.Barrier(16), []

    def take(claim):
        barrier.wait()
        if claim.take():
            got.append(claim)

    threads = [threading.Thread(target=take, args=(claim,)) for claim in wanting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()


TAKE = (
    "import sys, pathlib\nfrom hf_infodist.results.claims import Claim\n"
    "assert Claim(pathlib.Path(sys.argv[1])).take()\n"
)


def taken_by_a_process_that_is_gone(path):
    done = subprocess.run([sys.executable, "-c", TAKE + "import os; os._exit(1)", str(path)], check=False)
    assert done.returncode == 1 and len(list(path.parent.iterdir())) == 1


def test_the_claim_of_a_process_that_is_gone_is_free_at_once(path):
    taken_by_a_process_that_is_gone(path)
    heir, late = Claim(path), Claim(path)
    assert heir.take() and not late.take()
    heir.release()
    assert not list(path.parent.iterdir())  # the dead one's as well


def of_another_machine(path):
    """Make the latest claim one that this machine knows nothing of."""
    (file,) = path.parent.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"machine": "another"}))
    return file


def test_the_claim_of_another_machine_is_free_when_it_has_not_been_renewed(path):
    taken_by_a_process_that_is_gone(path)
    file, claim = of_another_machine(path), Claim(path)
    os.utime(file, (time.time() - 0.5 * claims.EXPIRY_SECONDS,) * 2)
    assert not claim.take()
    os.utime(file, (time.time() - 1.5 * claims.EXPIRY_SECONDS,) * 2)
    assert claim.take()
    claim.release()


def test_a_claim_is_renewed_as_long_as_it_is_held(path, monkeypatch):
    monkeypatch.setattr(claims, "_RENEWALS", 600)  # every tenth of a second
    first, second = Claim(path), Claim(path)
    first.take()
    file = of_another_machine(path)
    os.utime(file, (0, 0))
    deadline = time.monotonic() + 30
    while file.stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not second.take() and first.held
    first.release()


def test_a_claim_taken_over_is_not_held_any_more_and_stays_with_the_heir(path):
    stalled, heir = Claim(path), Claim(path)
    stalled.take()
    of_another_machine(path)
    (file,) = path.parent.iterdir()
    os.utime(file, (0, 0))
    assert heir.take()
    assert heir.held and not stalled.held
    stalled.release()
    assert heir.held and not Claim(path).take()
    heir.release()
