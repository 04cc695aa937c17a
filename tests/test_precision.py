"""The precision in which students are trained is part of the name of a number that is trained, and of no other."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from networks import SmallNet, noise_images, transform

from hf_infodist.coding.keys import codelength_key_of, device_of
from hf_infodist.distances.distance import codelength, information_distance
from hf_infodist.models.load import load_classifier
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.store import Store

KEYS = {  # as the store has had them since version 2 of the coding; of `standard` and `thorough` since version 4
    "standard": "ea3ee28960ba0b976ebfa9caa9d03f9e",
    "thorough": "bedb69645779862e2488815ca67bb95d",
    "single": "d7d95e4caf4c73e61aafbbad684cf4e3",
    "paper": "d504ccd1e29348b73ff08315fdc2ec57",
    "blockwise": "03467b1990c8019aa3b8d855d6f465d7",
    "sampled": "3ac5e4de8a54d02cc9199d6096b2953c",
}
CLOSED = ("standard", "sampled")


def accelerator(kind="cpu", mixed="no"):
    """What is asked of Accelerate by a single process; two of its own cannot differ in one process."""
    cast = nullcontext if mixed == "no" else lambda: torch.autocast(kind, torch.bfloat16)
    fields = {"num_processes": 1, "process_index": 0, "is_main_process": True, "autocast": cast}
    return SimpleNamespace(device=torch.device(kind), mixed_precision=mixed, **fields)


@pytest.mark.parametrize("name", KEYS)
def test_in_full_precision_numbers_have_the_names_that_they_had(name):
    where = device_of(accelerator(), PROTOCOLS[name])
    assert where == "cpu" and codelength_key_of(["a", "b"], ("xy", "xy"), PROTOCOLS[name], where) == KEYS[name]


@pytest.mark.parametrize("name", KEYS)
def test_mixed_precision_is_in_the_name_of_what_is_trained(name):
    assert device_of(accelerator("cuda", "bf16"), PROTOCOLS[name]) == ("cuda" if name in CLOSED else "cuda bf16")


def test_a_number_in_mixed_precision_is_another_one_and_says_so(store):
    nets = [SmallNet(seed=seed, batchnorm=True, dtype=torch.float32) for seed in range(2)]
    a, b = (load_classifier(net, transform=transform) for net in nets)
    full, mixed = (
        information_distance(a, b, noise_images(64), protocol="paper", accelerator=accelerator(mixed=mixed))
        for mixed in ("no", "bf16")
    )
    assert (full.device, mixed.device) == ("cpu", "cpu bf16") and full.nats != mixed.nats
    assert full.nats == pytest.approx(mixed.nats, rel=0.05)
    assert sorted(record.device for record in Store().records()) == ["cpu", "cpu", "cpu bf16", "cpu bf16"]
    same = [codelength(b, a, noise_images(64), accelerator=accelerator(mixed=mixed)).nats for mixed in ("no", "bf16")]
    assert same[0] == same[1]  # read from the store
