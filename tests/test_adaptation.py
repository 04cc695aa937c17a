"""What `standard` and `thorough` could be instead is coded as they are, but for what is varied."""

import json
from dataclasses import replace

import pytest

from hf_infodist.cli import main
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies.adaptation import VARIANTS


def test_variants_are_thorough_but_for_what_is_varied():
    thorough = PROTOCOLS["thorough"]
    assert VARIANTS["thorough"] == thorough and VARIANTS["standard"] == PROTOCOLS["standard"]
    assert VARIANTS["batch-16"] == replace(thorough, name="batch-16", batch=16)
    left = [learner for learner in thorough.learners if learner not in VARIANTS["unadapted"].learners]
    assert {learner.kind for learner in left} == {"adapted"}


def test_variants_of_standard_differ_in_what_begins_with_nothing():
    standard, learners = PROTOCOLS["standard"], {name: VARIANTS[name].learners for name in VARIANTS}
    assert [spec for spec in standard.learners if spec.start != "nothing"] == list(learners["begun"])
    first = [spec for spec in learners["begun"] if (spec.kind, spec.start) == ("kernel", "student")]
    twins = learners["twins"][len(learners["begun"]) :]
    assert [(spec.features, spec.flat) for spec in twins] == [(spec.features, spec.flat) for spec in first]
    assert {spec.name for spec in learners["as-likely"]} == {spec.name for spec in standard.learners}
    assert set(standard.learners) < set(learners["twins"])


def test_the_study_says_what_each_variant_costs(capsys):
    words = [
        "--pair",
        "cnn-vit",
        "-k",
        "48",
        "--variant",
        "thorough",
        "--variant",
        "standard",
        "--variant",
        "batch-32",
    ]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["study", "adaptation", *words])
    tried = {one["variant"]: one for one in json.loads(capsys.readouterr().out)["tried"]}
    assert list(tried) == ["thorough", "standard", "batch-32"]
    assert all(one["nats"] > 0 and one["last_nats"] > 0 for one in tried.values())
    assert tried["standard"]["gradient_images"] == 0 < tried["thorough"]["gradient_images"]
    assert len({one["nats"] for one in tried.values()}) == 3
