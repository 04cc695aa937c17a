"""What labels cost when they are learnt from a checkpoint: a code, and its ranking."""

import json
import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from networks import SmallNet, noise_images, transform
from scipy.special import log_softmax, softmax
from test_cli import run

from hf_infodist import load_classifier, rank_checkpoints
from hf_infodist.baselines.transfer import scores
from hf_infodist.coding import checkpoints
from hf_infodist.images.sample import load_labelled_images
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.pair import Execution
from hf_infodist.protocol import LABEL_PROTOCOLS, PROTOCOLS, CodingProtocol, LearnerSpec
from hf_infodist.results.candidate import Candidate
from hf_infodist.results.codelength import Codelength
from hf_infodist.results.ranking import Ranking

K, CLASSES = 60, 4
PICTURES = noise_images(K)
NET, OTHER = (load_classifier(SmallNet(seed=seed), transform=transform) for seed in (1, 2))


def brightest():
    """Labels that can be learnt: which quarter of the image is the brightest."""
    corners = [np.asarray(p, float)[y : y + 6, x : x + 6].mean() for p in PICTURES for y in (0, 6) for x in (0, 6)]
    return np.array(corners).reshape(K, CLASSES).argmax(1)


IMAGES = load_labelled_images(list(zip(PICTURES, brightest().tolist(), strict=True)))


def prices(images=IMAGES, model=NET, **options):
    return rank_checkpoints([model], images, **options).best.image_nats


def relabelled(**changes):
    labels = list(IMAGES.labels)
    for place, label in changes.items():
        labels[int(place[1:])] = label
    return replace(IMAGES, labels=labels)


@pytest.mark.parametrize("place", [0, 31, K - 1])
def test_prices_are_those_of_a_distribution_over_classes(place):
    names = tuple("abcd")
    told = [prices(replace(relabelled(**{f"i{place}": label}), label_names=names))[place] for label in range(CLASSES)]
    assert sum(math.exp(-nats) for nats in told) == pytest.approx(1, abs=1e-9)


def test_a_price_knows_the_past_alone():
    rng = np.random.default_rng(0)
    later = {f"i{i}": int(rng.integers(CLASSES)) for i in range(33, K)}
    before, after = prices(), prices(relabelled(**later))
    assert before[:33] == pytest.approx(after[:33], rel=1e-9) and before[33:] != pytest.approx(after[33:], rel=1e-2)


def test_it_is_kernel_regression_written_down_naively():
    kernel = LearnerSpec("kernel", features="penultimate", gamma=0.3, noise=0.1, gain=4.0, start="nothing")
    new = replace(kernel, start="student")
    protocol = CodingProtocol("naive", (new,), targets="labels", price="labels")
    features = compute_outputs(NET, IMAGES).features[:].astype(float)
    units = features[:, features.std(0) > 1e-9 * np.abs(features).max()]
    units = (units - units.mean(0)) / units.std(0)
    covariance = np.exp(-0.3 * ((units[:, None] - units) ** 2).mean(2)) + 1.0
    labels = np.array(IMAGES.labels)
    targets = np.eye(CLASSES)[labels] - 1 / CLASSES
    expected = []
    for i in range(K):
        past = covariance[:i, :i] + 0.1 * np.eye(i)
        mean = covariance[i, :i] @ np.linalg.solve(past, targets[:i]) if i else np.zeros(CLASSES)
        expected.append(-log_softmax(4.0 * mean)[labels[i]])
    assert prices(protocol=protocol) == pytest.approx(np.array(expected), rel=1e-6)


def test_random_labels_cost_their_entropy():
    rng = np.random.default_rng(0)
    images = replace(IMAGES, labels=rng.integers(0, CLASSES, K).tolist())
    ranking = rank_checkpoints([NET], images)
    best = ranking.best
    assert best.nats > ranking.frequency_nats - 2 * best.code.stderr_nats
    assert best.nats < K * math.log(CLASSES) * 1.5
    assert "Start from none" in ranking.verdict


def test_who_knows_the_labels_pays_least_and_order_and_store_change_nothing(tmp_path, monkeypatch):
    names = ["random:demo:cnn", "demo:cnn"]
    execution = Execution(home=tmp_path)
    first = rank_checkpoints(names, "digits", k=48, execution=execution)
    assert [one.id for one in first.candidates][-1] == "random:demo:cnn"
    assert first.candidates[0].nats < 10 < first.candidates[-1].nats < first.frequency_nats
    assert not first.behind(first.candidates[-1]).tied
    alone = rank_checkpoints(names[::-1], "digits", k=48, execution=Execution(home=tmp_path / "other"))
    monkeypatch.setattr("hf_infodist.distances.transfer.compute_outputs", lambda *_, **__: pytest.fail("it was run"))
    again = rank_checkpoints(names[::-1], "digits", k=48, execution=execution)
    for other in (alone, again):
        assert [one.id for one in other.candidates] == [one.id for one in first.candidates]
        assert all(
            (a.image_nats == b.image_nats).all() for a, b in zip(first.candidates, other.candidates, strict=True)
        )
        assert [one.accuracy for one in other.candidates] == [one.accuracy for one in first.candidates]


def test_one_network_under_two_names_is_tied():
    twin = load_classifier(SmallNet(seed=1), transform=transform)
    ranking = rank_checkpoints([NET, twin], IMAGES)
    assert ranking.tied == ranking.candidates[1:] and "is tied with it" in ranking.verdict


def test_names_of_classes_let_a_head_be_used():
    skilled = load_classifier("demo:cnn")
    digits = load_labelled_images("digits", k=32)
    words = tuple(
        f"digit {word}" for word in ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    named = replace(skilled, labels=words[::-1])
    same = rank_checkpoints([named], replace(digits, label_names=words[::-1], labels=digits.labels)).best.nats
    unknown = rank_checkpoints([replace(skilled, labels=())], replace(digits, label_names=words)).best.nats
    assert same < 5 < unknown


def test_a_wrong_head_of_as_many_classes_costs_little(tmp_path):
    """Outputs that mean something else, though there are as many: starting from nothing is in the mixture too."""
    net = load_classifier(SmallNet(CLASSES, seed=1, gain=5.0), transform=transform)
    given = rank_checkpoints([net], IMAGES).best.nats
    new = rank_checkpoints([net], replace(IMAGES, label_names=tuple("abcd"), labels=IMAGES.labels)).best.nats
    without = rank_checkpoints([replace(net, labels=())], IMAGES).best.nats
    assert max(given, new) < without + 8


def test_fine_tuning_takes_part_in_thorough_with_and_without_a_head():
    for model in (NET, replace(NET, heads=(), labels=())):
        best = rank_checkpoints([model], IMAGES.first(24), protocol="thorough").best
        assert best.code.gradient_images > 0 and 0 < best.nats < 24 * math.log(CLASSES) * 1.3
        tuned = [one for one in best.code.learners if one.name.startswith("finetuned")]
        assert len(tuned) == 3 and all(math.isfinite(one.nats) for one in tuned)


def test_presets_for_labels_survive_json_and_leave_the_others_alone():
    for name, protocol in LABEL_PROTOCOLS.items():
        assert protocol.name == name and protocol.price == "labels"
        assert CodingProtocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol
    afresh = [name for name, each in PROTOCOLS.items() if any(learner.start == "nothing" for learner in each.learners)]
    assert afresh == ["standard", "thorough"]


class Cut(Exception):
    pass


def test_cut_off_it_goes_on_to_the_same_bits_and_prices_nothing_twice(tmp_path, monkeypatch):
    for name in ("_LEAST_SECONDS", "_SHARE"):  # a checkpoint for every block
        monkeypatch.setattr(checkpoints, name, 0.0)

    def rank(home, limit=math.inf):
        def on_block(model, images, _):
            blocks.append((model, images))
            if len(blocks) >= limit:
                raise Cut

        blocks = []
        options = {"protocol": "thorough", "execution": Execution(home=tmp_path / home)}
        with suppress(Cut):
            return blocks, rank_checkpoints([NET, OTHER], IMAGES.first(20), on_block=on_block, **options)
        return blocks, None

    everything, whole = rank("whole")
    before, nothing = rank("cut", limit=len(everything) * 3 // 4)
    after, resumed = rank("cut")
    assert nothing is None and before + after == everything
    for one, other in zip(whole.candidates, resumed.candidates, strict=True):
        assert one.id == other.id and one.image_nats.tobytes() == other.image_nats.tobytes()
        assert one.accuracy == other.accuracy


# The ranking of given prices


def candidate(name, nats):
    record = replace(NET.record, id=name)
    code = Codelength(np.array(nats), math.nan, math.nan, (), (len(nats),), 0.05, 1.0, image_hits=np.ones(len(nats)))
    return Candidate(record, code, 1.0)


def ranking(**prices):
    k = len(next(iter(prices.values())))
    found = [candidate(name, nats) for name, nats in prices.items()]
    return Ranking.of(found, replace(IMAGES.record, k=k), LABEL_PROTOCOLS["standard"], [0, 1] * (k // 2), "ab")


def test_whoever_is_ahead_in_the_second_half_is_best_and_who_learns_faster_is_told():
    """One costs .3 less a label for 80 labels, and .1 more from then on."""
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    slow = np.concatenate([np.full(80, 0.6), np.full(120, 0.1)]) + noise
    found = ranking(quick=np.concatenate([np.full(80, 0.3), np.full(120, 0.2)]), slow=slow)
    assert found.best.id == "slow" and not found.tied and found.best.nats > found.candidates[1].nats
    assert found.ahead_until(found.candidates[1]) == pytest.approx(80, abs=2)
    assert found.verdict == "Start from slow; with fewer than about 80 labels quick is ahead."
    assert found.behind(found.candidates[1]).nats == pytest.approx(10, abs=0.3)


def test_what_may_be_chance_neither_wins_nor_is_ahead():
    rng = np.random.default_rng(0)
    a, b = rng.exponential(0.3, (2, 200))
    found = ranking(a=a, b=b, c=a + 0.2)
    assert [one.id for one in found.tied] == [({"a", "b"} - {found.best.id}).pop()]
    assert not any(found.ahead_until(one) for one in found.candidates)


def test_paired_errors_cover_the_difference_between_samples():
    """Differences of two learners whose prices fall, over 400 samples: 2 standard errors hold their mean in 95 %."""
    rng, fall = np.random.default_rng(1), 1 / np.sqrt(1 + np.arange(200))
    inside = 0
    for _ in range(400):
        shared = rng.exponential(1.0, 200) * fall
        found = ranking(a=shared + rng.normal(0, 0.1, 200), b=1.1 * shared + rng.normal(0, 0.1, 200) + 0.05)
        worse = found.behind(found.candidates[1])
        expected = math.fsum((0.1 * fall + 0.05)[100:]) * (1 if found.best.id == "a" else -1)
        inside += abs(worse.nats - expected) <= 2 * worse.stderr_nats
    assert 0.92 < inside / 400 < 0.985


def test_baselines_are_those_of_the_same_outputs(tmp_path, monkeypatch):
    passes = []
    network = NET.network.forward
    monkeypatch.setattr(NET.network, "forward", lambda pixels: passes.append(len(pixels)) or network(pixels))
    options = {"execution": Execution(home=tmp_path)}
    (bare,) = rank_checkpoints([NET], IMAGES, **options).candidates
    before = sum(passes)
    found = rank_checkpoints([NET], IMAGES, baselines=True, **options)
    assert sum(passes) == before >= K and bare.baselines == {}
    outputs, labels = compute_outputs(NET, IMAGES, home=tmp_path), np.array(IMAGES.labels)
    expected = scores(outputs.features[:].astype(float), softmax(outputs.logits[:].astype(float), axis=1), labels)
    (head,) = (NET.network.get_submodule(name) for name in NET.heads)
    count, of_head = (sum(weights.numel() for weights in part.parameters()) for part in (NET.network, head))
    assert found.best.baselines == expected | {"parameters": count - of_head}
    assert found.to_dict()["models"][0]["baselines"] == found.best.baselines and count > of_head > 0
    assert found.to_pandas()["LogME"].tolist() == [expected["LogME"]]


# The command


def test_the_command_ranks_and_says_what_to_do(capsys, tmp_path):
    words = ("transfer", "random:demo:cnn", "demo:cnn", "-i", "digits", "-k", 32)
    code, out, _ = run(capsys, *words, "--json", "-o", tmp_path / "r.json")
    told = json.loads(out)
    assert (
        code == 0 and told["schema"] == "infodist.transfer/1" and told == json.loads((tmp_path / "r.json").read_text())
    )
    assert [row["model"] for row in told["models"]] == ["demo:cnn", "random:demo:cnn"]
    fields = {"nats", "stderr_nats", "tail_nats", "rank", "tied_with_best", "accuracy", "log_loss", "curve", "seconds"}
    assert all(fields <= row.keys() for row in told["models"]) and told["models"][0]["curve"][-1][0] == 32
    code, out, err = run(capsys, *words, "--plot", tmp_path / "curves")
    assert code == 0 and "Start from demo:cnn" in out and "bits per label" in out
    assert "curves.png" in err and (tmp_path / "curves.svg").is_file()
    assert run(capsys, *words, "-q")[1] == "demo:cnn\nrandom:demo:cnn\n"
    code, _, err = run(capsys, *words, "--label", "species")
    assert code == 3 and len(err.splitlines()) == 4  # after what is being loaded
    out = run(capsys, *words, "--baselines")[1]
    below = out[out.index("kNN") :].splitlines()
    assert [line.split()[0] for line in below[1:3]] == ["demo:cnn", "random:demo:cnn"]
    assert max(map(len, below[1:3])) <= 80


@pytest.mark.slow
def test_two_processes_share_the_models(tmp_path):
    names, options = ["demo:cnn", "demo:vit", "random:demo:cnn"], {"k": 64}
    shared = rank_checkpoints(names, "digits", workers=2, execution=Execution(home=tmp_path / "2"), **options)
    alone = rank_checkpoints(names, "digits", execution=Execution(home=tmp_path / "1"), **options)
    for a, b in zip(shared.candidates, alone.candidates, strict=True):
        assert a.id == b.id and a.image_nats == pytest.approx(b.image_nats, rel=1e-6, abs=1e-9)
