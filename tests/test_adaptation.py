"""What `thorough` could be instead is coded as it is, but for what is varied."""

import json

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_images, transform

from hf_infodist.cli import main
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.adaptation import VARIANTS
from hf_infodist.studies.measures.adapted import FEATURES, LastStage, code_with

K = 96


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    nets = (SmallNet(seed=seed, batchnorm=True, dtype=torch.float32) for seed in range(2))
    models = (load_classifier(net, transform=transform) for net in nets)
    return prepare_pair(*models, noise_images(K), execution=Execution(home=tmp_path_factory.mktemp("store")))


def test_with_nothing_varied_it_is_thorough(pair):
    wanted = train_codelength(pair, "b_given_a", PROTOCOLS["thorough"])
    assert np.array_equal(VARIANTS["thorough"](pair, make_accelerator()).image_nats, wanted.image_nats)


def test_kernels_on_adapted_features_begin_as_the_start_and_then_differ(pair):
    code = code_with(pair, PROTOCOLS["thorough"], make_accelerator(), adapted=True)
    plain = train_codelength(pair, "b_given_a", PROTOCOLS["thorough"])
    nats = {learner.name: learner for learner in code.learners}
    static = nats["static"].nats
    assert all(0 < nats[f"adapted-{features}"].nats < static for features in FEATURES)
    assert code.gradient_images == plain.gradient_images and code.nats != plain.nats


def test_only_the_last_stage_is_trained(pair, monkeypatch):
    made, new = [], LastStage._new_network
    monkeypatch.setattr(LastStage, "_new_network", lambda self: made.append(new(self)) or made[-1])
    code_with(pair, PROTOCOLS["thorough"], make_accelerator(), last_stage=True)
    trained = {name for net in made for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained == {f"module.{layer}.{part}" for layer in ("hidden", "head") for part in ("weight", "bias")}
    assert all(torch.equal(net.module.conv1.weight, made[0].module.conv1.weight) for net in made)


def test_the_study_says_what_each_variant_costs(capsys):
    words = ["--pair", "cnn-vit", "-k", "48", "--variant", "thorough", "--variant", "batch-32"]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["study", "adaptation", *words])
    tried = json.loads(capsys.readouterr().out)["tried"]
    assert [one["variant"] for one in tried] == ["thorough", "batch-32"]
    assert all(one["nats"] > 0 and one["last_nats"] > 0 and one["gradient_images"] > 1 for one in tried)
