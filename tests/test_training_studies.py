"""The studies of training: their designs, their data and networks at both scales, and whole small runs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hf_infodist.cli import main
from hf_infodist.protocol import PROTOCOLS, CodingProtocol, LearnerSpec
from hf_infodist.studies import ensembles, generalization, regularization
from hf_infodist.studies.networks import scale as _scale
from hf_infodist.studies.networks.fit import Examples, Goal, Training
from hf_infodist.studies.networks.resnet import Architecture
from hf_infodist.studies.networks.scale import PAPER, SMALL, Affine, fresh, load, trained
from hf_infodist.studies.report.output import to_json

CLASSES = tuple("abc")


def tiny_network(classes):
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten()),
        nn.Linear(36, len(classes)),
    )


TINY = replace(
    SMALL,
    networks=dict.fromkeys(SMALL.networks, tiny_network),
    train=320,
    validation=100,
    test=100,
    k=40,
    protocol="two learners",
)
TWO_LEARNERS = CodingProtocol(
    "two learners",
    (LearnerSpec("static"), LearnerSpec("kernel", features="all", gamma=0.3, noise=0.1)),
    first_block=20,
)


@pytest.fixture
def digits_only(monkeypatch, tmp_path):
    monkeypatch.setattr(_scale, "FASHION", tmp_path / "missing")
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "store"))


def noise(count=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 28, 28), generator=generator, dtype=torch.uint8)
    return Examples(images, torch.randint(3, (count,), generator=generator))


# Data and networks


def test_without_fashion_there_are_digits_in_parts_that_have_nothing_in_common(digits_only):
    data = load(TINY)
    assert data.name == "digits" and data.side == 28 and len(data.coded) == 40 and len(data.validation) == 100
    pictures = [
        {image.numpy().tobytes() for image in part.images[:, 0]} for part in (data.pool, data.validation, data.test)
    ]
    coded = {np.asarray(image)[..., 0].tobytes() for image in data.coded}
    for i, part in enumerate(pictures):
        assert not part & coded and not any(part & other for other in pictures[:i])
    drawn = [data.draw(50, seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0].images, drawn[1].images) and not torch.equal(drawn[0].images, drawn[2].images)


def test_parts_shrink_together_where_a_dataset_is_small(digits_only):
    data = load(replace(TINY, train=12_000, validation=1200, k=1200))
    assert len(data.coded) == len(data.validation) == pytest.approx(1300 / 12, abs=1)
    assert len(data.draw(12_000, 0)) == len(data.pool) > 1000


def test_a_dataset_of_the_hub_is_read_by_its_features(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Image

    features = Features({"img": Image(), "coarse": ClassLabel(names=["cat", "dog"])})
    images = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)
    rows = {"img": list(images), "coarse": [i % 2 for i in range(30)]}
    for split in ("train", "valid"):
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}.parquet")
    data = load(replace(PAPER, data=str(tmp_path), test_split="validation", train=10, validation=5, k=5))
    assert data.classes == ("cat", "dog") and data.side == 12 and len(data.pool) == 20 and len(data.test) == 30
    shown = {image.tobytes(): number % 2 for number, image in enumerate(images)}
    for image, label in zip(data.pool.images, data.pool.targets, strict=True):
        assert shown[image.permute(1, 2, 0).contiguous().numpy().tobytes()] == label


def test_the_paper_s_network_has_56_layers():
    network = fresh(PAPER.networks["deep"], tuple(map(str, range(200))), 0)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert sum(one.kernel_size == (3, 3) for one in convolutions) == 55 and len(convolutions) == 57
    assert network.layer4(network.layer3(network.layer2(network.layer1(torch.zeros(1, 16, 64, 64))))).shape[1:] == (
        *(64, 16, 16),
    )
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 200)


@pytest.mark.parametrize("scale", [SMALL, PAPER], ids=["small", "paper"])
def test_networks_of_both_scales_classify(scale):
    for name, build in scale.networks.items():
        network = fresh(build, CLASSES, 0)
        with torch.no_grad():
            logits = network(torch.randn(2, 3, 28, 28))
        assert logits.shape == (2, 3) and logits.abs().max() < 30
        norms = {type(module) for module in network.modules()} & {nn.BatchNorm2d, Affine}
        assert norms == {"plain": {Affine}, "lenet": set()}.get(name, {nn.BatchNorm2d})


def test_a_plain_block_begins_as_its_shortcut():
    network = Architecture(1, batch_norm=False).drawn(3, 0)
    pixels = torch.rand(1, 16, 8, 8)
    assert torch.equal(network.layer1(pixels), pixels)


@pytest.mark.parametrize("study", [ensembles, generalization, regularization])
def test_settings_of_both_scales_are_json(study):
    assert study.SCALES.keys() == {"small", "paper"}
    for scale, *settings in study.SCALES.values():
        assert json.loads(to_json([scale.to_dict(), *settings]))[0]["k"] == scale.k
    assert study.SCALES["paper"][0].k == 10_000 and study.SCALES["paper"][0].protocol == "paper"


def test_an_equal_training_is_read_and_any_other_is_not(tmp_path, monkeypatch):
    goal, training = Goal(0.0, 16), Training(1, batch=16)

    def train(init=0, seed=0, training=training, goal=goal, some=0):
        network = fresh(tiny_network, CLASSES, init)
        examples = noise(seed=some)
        return trained(network, examples, training, tmp_path, seed=seed, goal=goal, watched=examples)

    first = train()
    monkeypatch.setattr(_scale, "fit", lambda *_, **__: pytest.fail("trained"))
    again = train()
    assert again.fitted == first.fitted
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True))
    for change in (
        *({"init": 1}, {"seed": 1}, {"training": replace(training, rate=1.0)}, {"goal": Goal(0.0, 32)}, {"some": 1}),
    ):
        with pytest.raises(pytest.fail.Exception, match="trained"):
            train(**change)


def test_json_has_five_digits_and_no_nan():
    text = to_json({"a": [1 / 3, np.nan, 2], "b": np.array([[1.0, 2.0]]), "c": Goal(0.1, 5)})
    assert json.loads(text) == {"a": [0.33333, None, 2], "b": [[1.0, 2.0]], "c": {"loss": 0.1, "every": 5}}
    assert ' "a": [ 0.33333, null, 2 ]' in text and '"c": { "loss": 0.1, "every": 5 }' in text


# Designs


def test_halves_share_what_their_conditions_say():
    pool = Examples(torch.zeros(400, 1), torch.arange(400))
    halves = [set(member.examples(pool).targets.tolist()) for member in ensembles.MEMBERS]
    assert {len(half) for half in halves} == {200} and len(ensembles.PAIRS) == 45
    for (i, j), (start, share) in zip(ensembles.PAIRS, ensembles.CONDITIONS, strict=True):
        assert len(halves[i] & halves[j]) == 2 * share
        assert (start == "same") == (ensembles.MEMBERS[i].start == ensembles.MEMBERS[j].start)
    assert set(ensembles.CONDITIONS) == set(ensembles.ROWS)
    counts = ensembles.by_condition(np.ones((2, 45)))
    assert counts.shape == (2, 9) and (counts == 1).all()
    kind = np.array([row[0] == "same" for row in ensembles.ROWS])
    assert ensembles.within_initialisation(5.0 * kind + np.arange(9)).tolist() == [
        -1.5,
        -0.5,
        0.5,
        1.5,
        -2,
        -1,
        0,
        1,
        2,
    ]


def test_two_heads_are_better_than_their_mean_and_one_twice_is_as_good():
    generator = torch.Generator().manual_seed(0)
    logs = torch.randn(2, 50, 4, generator=generator, dtype=torch.float64).log_softmax(2)
    alone, together = ensembles.judge([logs[0], logs[0], logs[1]], torch.randint(4, (50,), generator=generator))
    assert together["gain"][0] == pytest.approx(0, abs=1e-12) and (together["gain"][1:] > 0.01).all()  # Jensen
    assert together["loss"][0] == pytest.approx(alone[0].loss) and together["accuracy"][0] == alone[0].accuracy


def test_configurations_differ_from_the_default_in_one_respect():
    default, *others = generalization.configurations(Training(5))
    for one in others:
        changed = {
            name for name in vars(one.training) if getattr(one.training, name) != getattr(default.training, name)
        }
        respects = changed - {"epochs"} - ({"rate"} if "optimizer" in changed else set())
        assert len(respects) + (one.network != default.network) == 1
    assert len(others) == 8


def test_every_kind_begins_with_none_and_the_base_is_shared():
    base = Training(5)
    for kind in regularization.KINDS:
        assert kind.strengths[0] == 0 and list(kind.strengths) == sorted(kind.strengths)
        none = kind.training(base, kind.strengths[0])
        assert repr(replace(none, rate=base.rate)) == repr(base) and (none == base) == (kind.network == "deep")
        assert (kind.training(base, kind.strengths[-1]) != none) == (kind.field is not None)


# Whole runs


def run(name, monkeypatch, tmp_path, capsys, *settings, seeds=2, more=()):
    module = {"ensembles": ensembles, "generalization": generalization, "regularization": regularization}[name]
    monkeypatch.setitem(module.SCALES, "small", (TINY, *settings))
    monkeypatch.setitem(PROTOCOLS, TWO_LEARNERS.name, TWO_LEARNERS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["study", name, "--work", "nets", "--seeds", str(seeds), "--output", "out", *more])
    assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
    text = (tmp_path / "out" / f"{name}.json").read_text()
    assert str(tmp_path) not in text and "NaN" not in text
    return json.loads(text), capsys.readouterr().out


@pytest.mark.slow
def test_ensembles_run(digits_only, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ensembles, "MEASURES", ensembles.MEASURES[-3:])
    training, goal = Training(4, rate=1e-2, batch=16), Goal(0.5, 160)
    figures, out = run("ensembles", monkeypatch, tmp_path, capsys, training, goal, seeds=1)
    assert len(figures["table"]) == 9 and sum(row["pairs"] for row in figures["table"]) == 45
    assert np.shape(figures["measures"]["infodist"]) == np.shape(figures["together"]["loss"]) == (1, 45)
    assert (np.array(figures["measures"]["infodist"]) > 0).all() and (np.array(figures["together"]["gain"]) > 0).all()
    nested = figures["correlations"]["infodist"]["conditions"]["loss"]
    assert nested["of_means"]["n"] == 9 and nested["pooled"]["n"] == 9 and "infodist" in out


@pytest.mark.slow
def test_generalization_runs(digits_only, monkeypatch, tmp_path, capsys):
    more = ("--train", "96", "-k", "50")
    figures, out = run("generalization", monkeypatch, tmp_path, capsys, Training(3, batch=16), 0.5, seeds=1, more=more)
    settings = figures["settings"]
    assert (settings["scale"]["train"], settings["scale"]["k"], settings["goal"]["every"]) == (96, 50, 48)
    assert len(figures["table"]) == 9 and "opt=SGD" in out
    for row in figures["table"].values():
        for one in row["per_seed"]:
            assert one["gap"] == pytest.approx(one["test"]["loss"] - one["train"]["loss"], abs=1e-4)
            assert one["measures"]["infodist"] > 0
    assert figures["correlations"]["infodist"]["of_means"]["n"] == 9


@pytest.mark.slow
def test_regularization_runs(digits_only, monkeypatch, tmp_path, capsys):
    figures, out = run("regularization", monkeypatch, tmp_path, capsys, Training(3, rate=1e-2, batch=16, anneal=True))
    assert figures["kinds"].keys() == {kind.name for kind in regularization.KINDS} and "Spearman" in out
    nats = {name: np.array(kind["per_seed"]["nats"]) for name, kind in figures["kinds"].items()}
    assert all(values.shape == (2, 4) and (values > 0).all() for values in nats.values())
    for name in ("self-distillation", "label smoothing"):
        assert (nats[name][:, 0] == nats["weight decay"][:, 0]).all()  # without any, all are one network
    assert (nats["label smoothing"][:, -1] < nats["label smoothing"][:, 0]).all()
