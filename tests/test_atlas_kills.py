"""Three writers on one atlas, killed twenty times: nothing finished is lost, nothing half-written is read."""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace

import networks
import pytest

from hf_infodist.analysis.atlas import add_models, head_of
from hf_infodist.images.sample import load_images
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution
from hf_infodist.results.atlas.folder import Atlas

MODELS, K, KILLS, WRITERS = 150, 32, 20, 3  # more models than are finished until the last kill
FORK = multiprocessing.get_context("fork")  # a writer is there at once: most kills meet it at its work


def fill(folder, nets, images):
    """Add all models, as the command does."""
    execution = Execution(home=folder.with_name("home"))
    return add_models(Atlas.begin(folder, head_of(images)), nets, images, execution=execution)


def written(folder):
    """Return the bytes of all models that have their names."""
    found = {}
    for path in (folder / "models").glob("*.safetensors"):
        found[path.name] = path.read_bytes()
    return found


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_bytes(tmp_path, caplog):
    images = load_images(networks.noise_images(k=K))
    nets = [load_classifier(networks.SmallNet(seed=seed), transform=networks.transform) for seed in range(MODELS)]
    nets = [replace(net, id=f"net-{seed}") for seed, net in enumerate(nets)]
    fill(tmp_path / "first", nets[:1], images)  # so that writers need not import the libraries
    rng, killed, kills, finished, met = random.Random(0), tmp_path / "killed", 0, {}, 0

    def started():
        process = FORK.Process(target=lambda: (fill(killed, nets, images), os._exit(0)))
        process.start()
        return process

    writers = [started() for _ in range(WRITERS)]
    while kills < KILLS:
        number, soon = rng.randrange(WRITERS), time.monotonic() + 1
        while len(written(killed)) == len(finished) and time.monotonic() < soon:  # one kill for each new model, about
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.2))
        finished |= written(killed)
        met += writers[number].is_alive() and len(finished) < MODELS
        if writers[number].is_alive():
            os.kill(writers[number].pid, signal.SIGKILL)
        writers[number].join()
        kills += 1
        now = written(killed)
        assert all(now[name] == content for name, content in finished.items())
        if (killed / "atlas.json").exists():
            assert len(Atlas.open(killed).sound) >= len(now)
        writers[number] = started()
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    print(f"{met} of {kills} kills met a writer at work; {len(finished)} models were finished then")  # noqa: T201
    assert met > KILLS // 2 and finished
    names = [file.entry.id for file in Atlas.open(killed).files]
    nets = nets[: 2 + max(int(name.partition("-")[2]) for name in names)]
    last = fill(killed, nets, images)
    assert sorted([*last.new, *last.there]) == sorted(net.id for net in nets) and not last.failed
    assert len(fill(tmp_path / "whole", nets, images).new) == len(nets)
    whole, after = written(tmp_path / "whole"), written(killed)
    assert after == whole and all(after[name] == content for name, content in finished.items())
    assert not list((killed / "models").glob("*.unreadable"))
    assert not caplog.records
    import pandas

    table = pandas.read_parquet(killed / "index.parquet")
    assert sorted(table["model"]) == sorted(net.id for net in nets)
