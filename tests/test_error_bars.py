"""Sampled, expected and transferred codelengths agree as the paper says, and the study measures that."""

import json
from dataclasses import replace

import pytest
from networks import SmallNet, noise_images, transform

from hf_infodist.cli import main
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import prepare_pair
from hf_infodist.protocol import PROTOCOLS, CodingProtocol, LearnerSpec
from hf_infodist.results.codelength import Codelength
from hf_infodist.studies.error_bars import difference, over_draws, over_orders, spread

FREE = CodingProtocol(
    "free",
    (
        LearnerSpec("static"),
        LearnerSpec("kernel", features="all", gamma=0.3, noise=0.1, gain=2.0),
        LearnerSpec("map", prior_if_named=1e-3),
    ),
    first_block=16,
    growth=2.0,
    passes=2,
    switching=True,
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    a, b = (load_classifier(SmallNet(seed=seed, gain=4.0), transform=transform) for seed in range(2))
    return prepare_pair(a, b, noise_images(120))


def test_sampled_expected_and_transferred_codelengths_agree(pair):
    """Equations (3), its expectation and (8): all three have one mean over the draws of the labels."""
    figures = over_draws(pair, FREE, 30)
    sampled, transfer = figures["sampled_less_expected"], figures["transfer_less_expected"]
    assert abs(sampled["mean_nats"]) < 3 * sampled["standard_error"]
    assert sampled["standard_error"] < 0.2 * figures["expected_nats"]  # or the agreement would say nothing
    known = figures["sampled_nats"] - figures["information_transfer_nats"]
    assert abs(transfer["mean_nats"] + known) < 3 * transfer["standard_error"]
    assert 0 <= abs(known) < 2.5  # what B pays for its own labels: for finding out that it need not learn


def test_orders_spread_less_than_the_error_over_images_says(pair):
    figures = over_orders(pair, replace(PROTOCOLS["standard"], first_block=16), 6)
    assert 0 < figures["standard_deviation"] < figures["reported_standard_error"]
    assert figures["within_one_error_of_the_mean"] == 1.0


def test_spread_and_difference_are_what_their_names_say():
    def code(nats):
        return Codelength([nats - 1.0, 1.0], 0.0, 0.0, (), (2,), 0.05, 0.0, (), (2.0,))

    figures = spread([code(nats) for nats in (7.0, 10.0, 13.0)])
    assert figures["nats"] == 10.0 and figures["standard_deviation"] == 3.0
    assert figures["within_one_error_of_the_mean"] == pytest.approx(1 / 3)
    assert figures["within_two_errors_of_the_mean"] == 1.0
    assert difference([2.0, 5.0], [1.0, 2.0]) == {"mean_nats": 2.0, "standard_error": pytest.approx(1.0)}


@pytest.mark.slow
def test_the_study_runs_on_the_demo_pair(capsys, tmp_path):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(
            [
                "study",
                "error_bars",
                "demo:cnn",
                "demo:vit",
                "-i",
                "digits",
                "-k",
                "48",
                "-p",
                "standard",
                "--runs",
                "3",
            ]
        )
    figures = json.loads(capsys.readouterr().out)
    assert figures["runs"] == 3 and figures["samples"]["reported_standard_error"] > 0
