"""The protocol holds together and refuses nonsense."""

import dataclasses
import json

import pytest

from hf_infodist.errors import UsageError
from hf_infodist.protocol import PROTOCOLS, CodingProtocol, LearnerSpec, resolve_protocol


@pytest.mark.parametrize("name", PROTOCOLS)
def test_presets_survive_json(name):
    fields = json.loads(json.dumps(PROTOCOLS[name].to_dict()))
    assert CodingProtocol.from_dict(fields) == PROTOCOLS[name]


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("k", [1, 31, 32, 33, 1000])
def test_blocks_cover_the_images_in_order(name, k):
    blocks = list(PROTOCOLS[name].blocks(k))
    assert [start for start, _ in blocks] == [0, *(end for _, end in blocks[:-1])]
    assert blocks[-1][1] == k and all(start < end for start, end in blocks)


def test_paper_preset_is_the_papers_run():
    paper = PROTOCOLS["paper"]
    assert (paper.batch, paper.first_block, paper.growth, paper.replay, paper.passes) == (32, 32, 1.0, 0, 0)
    assert [learner.lr for learner in paper.learners] == [2e-3] and paper.targets == "soft"


def test_learners_that_differ_in_their_steps_alone_have_names_of_their_own():
    for lr, batchnorm in ((1e-3, "frozen"), (2e-3, "adapting"), (2e-3, "frozen")):
        both = [LearnerSpec("finetuned", lr=lr, batchnorm=batchnorm, step=step) for step in ("relative", "mean")]
        assert len({spec.name for spec in CodingProtocol("test", tuple(both)).learners}) == 2
    names = [spec.name for preset in PROTOCOLS.values() for spec in preset.learners if spec.trained]
    assert "finetuned-adapting-0.002" in names and not any(name.endswith(("mean", "relative")) for name in names)


def test_blockwise_ends_double():
    assert [end for _, end in PROTOCOLS["blockwise"].blocks(1000)] == [16, 32, 64, 128, 256, 512, 1000]


@pytest.mark.parametrize(
    ("name", "budget", "at_worst", "share"),
    [("standard", 0, 0, 0), ("sampled", 0, 0, 0), ("thorough", 15, 15, 0)],
)
def test_presets_stay_within_their_budget_of_gradients_at_all_but_a_few_sizes(name, budget, at_worst, share):
    spent = [PROTOCOLS[name].gradient_images(k) / k for k in range(1000, 10_001)]
    assert max(spent) <= at_worst
    assert sum(each > budget for each in spent) <= share * len(spent)


def test_gradient_images_of_one_pass_are_the_images_learnt_from():
    assert PROTOCOLS["paper"].gradient_images(320) == 288  # nothing is learnt from the last block


@pytest.mark.parametrize(
    "fields",
    [
        {"learners": ()},
        {"first_block": 0},
        {"growth": 0.5},
        {"price": "labels"},
        {"learners": (LearnerSpec("static"),) * 2},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(fields):
    with pytest.raises(UsageError):
        dataclasses.replace(PROTOCOLS["paper"], **fields)


@pytest.mark.parametrize("name", ["quick", "probe"])
def test_a_preset_that_is_gone_names_its_successor(name):
    with pytest.raises(UsageError, match="standard") as error:
        resolve_protocol(name)
    assert error.value.fix == "use --protocol standard"


def test_unknown_protocol_names_the_real_ones():
    with pytest.raises(UsageError, match="standard"):
        resolve_protocol("standart")


def test_seed_is_part_of_the_protocol():
    assert resolve_protocol("paper", 3).seed == 3
    own = dataclasses.replace(PROTOCOLS["paper"], seed=7)
    assert resolve_protocol(own, 3) == own
