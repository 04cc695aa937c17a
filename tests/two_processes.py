"""What each of two processes that share every batch makes of some runs; started by `test_data_parallel`."""

import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from networks import SmallNet, noise_images, transform

from hf_infodist import processes
from hf_infodist.coding import checkpoints
from hf_infodist.coding.checkpoints import Checkpoints
from hf_infodist.coding.finetuned import FineTuned
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution, prepare_pair
from hf_infodist.processes import ProcessTeam
from hf_infodist.protocol import PROTOCOLS

K = 96
RUNS = {  # protocols: statistics of whole batches are needed where BatchNorm adapts
    "frozen": replace(PROTOCOLS["single"], first_block=24, batch=7, replay=2),
    "adapting": replace(PROTOCOLS["paper"], first_block=16, batch=8),
    "several": replace(PROTOCOLS["thorough"], passes=1),
}


class Cut(Exception):
    pass


class Watched(FineTuned):
    """Notes how many images there are gradients of at a time, and the bytes kept for them; memory may run out."""

    seen: ClassVar[list[tuple[int, int]]] = []
    short = 0  # number of the pass in which it does

    def _train_logits(self, images):
        kept = []

        def pack(tensor):
            kept.append(tensor.nbytes if len(tensor) == len(images) else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = super()._train_logits(images)
        self.seen.append((len(images), sum(kept)))
        if len(self.seen) == Watched.short:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return logits


def pair(home):
    nets = (SmallNet(seed=seed, batchnorm=True) for seed in range(2))
    models = (load_classifier(net, transform=transform) for net in nets)
    return prepare_pair(*models, noise_images(K), execution=Execution(home=home))


def nats(made, protocol, team=None, short=0, **options):
    """Return the nats of each image, and what was seen."""
    Watched.seen, Watched.short = [], short
    execution = Execution(data_parallel=team is not None)
    code = train_codelength(made, "b_given_a", protocol, execution=execution, team=team, **options)
    return {"image_nats": code.image_nats.tolist(), "seen": Watched.seen}


def cut_off(made, protocol, team, folder):
    """Leave a checkpoint in the middle of a run."""

    def on_block(images, nats):
        if images >= K // 2:
            raise Cut

    with suppress(Cut):
        nats_so_far = nats(made, protocol, team, on_block=on_block, checkpoints=Checkpoints(folder, "key", team))
        raise AssertionError(nats_so_far)


def main(folder):
    torch.distributed.init_process_group("gloo")
    team = ProcessTeam(2, torch.distributed.get_rank(), torch.distributed.group.WORLD)
    made = pair(folder / f"store-{team.index}")
    found = {name: nats(made, protocol, team) for name, protocol in RUNS.items()}
    for name in ("frozen", "adapting"):
        cut_off(made, RUNS[name], team, folder / name)
        found[f"{name}, resumed"] = nats(made, RUNS[name], team, checkpoints=Checkpoints(folder / name, "key", team))
    found["frozen, short"] = nats(made, RUNS["frozen"], team, short=3 * team.index)  # in one of them
    processes.SENT_NUMBERS = 50
    found["frozen, in pieces"] = nats(made, RUNS["frozen"], team)
    cut_off(made, RUNS["frozen"], team, folder / "left")  # for a single process to go on from
    (folder / f"{team.index}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def watch():
    """Let runs be watched, and checkpoints be written after each block."""
    from hf_infodist.coding import trainer

    trainer.FineTuned, checkpoints._LEAST_SECONDS, checkpoints._SHARE = Watched, 0.0, 0.0


if __name__ == "__main__":
    watch()
    main(Path(sys.argv[1]))
