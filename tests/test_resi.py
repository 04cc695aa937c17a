"""The study of ReSi's tests: populations are what they are called, and a tiny run ends with scores and a picture."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hf_infodist.errors import UsageError
from hf_infodist.studies import resi, run_study
from hf_infodist.studies.measures import known as _known
from hf_infodist.studies.measures.known import Known, known
from hf_infodist.studies.measures.populations import NAMES, TRUTHS, Measured
from hf_infodist.studies.networks import scale as _scale
from hf_infodist.studies.networks.data import from_hub
from hf_infodist.studies.networks.fit import Examples, Goal, Training, fit, noisy, normalised
from hf_infodist.studies.networks.populations import (
    GROUPED,
    SETTINGS,
    Setting,
    colours,
    groups,
    network,
    pictures,
    run,
    seeds,
    with_dots,
    with_random_labels,
)

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
CLASSES = 10


def examples(count=2000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8).expand(-1, 3, -1, -1)
    return Examples(images, torch.randint(CLASSES, (count,), generator=generator))


def told(some):
    """Return the class whose colour the dot of each picture has."""
    grey = (some.images[:, 0] == some.images[:, 1]) & (some.images[:, 1] == some.images[:, 2])  # [N, H, W]
    wheel = colours(CLASSES)
    found = []
    for image, spot in zip(some.images, ~grey, strict=True):
        (colour,) = image[:, spot].unique(dim=1).T  # one colour alone
        found.append(int((wheel == colour).all(1).nonzero()))
    return torch.tensor(found), (~grey).sum((1, 2))


@pytest.mark.parametrize("share", SHARES)
def test_a_share_of_the_labels_is_drawn_anew_and_pictures_stay(share):
    before = examples()
    after = with_random_labels(before, CLASSES, share, seed=3)
    changed = (after.targets != before.targets).double().mean().item()
    assert changed == pytest.approx(share * 0.9, abs=0.03)  # a tenth of the drawn ones stays by chance
    assert after.images is before.images
    assert torch.equal(after.targets, with_random_labels(before, CLASSES, share, seed=3).targets)
    other = with_random_labels(before, CLASSES, share, seed=4).targets
    assert torch.equal(after.targets, other) == (share == 0)


def test_labels_that_are_all_random_say_nothing():
    before = examples(20_000)
    after = with_random_labels(before, CLASSES, 1, seed=0)
    table = np.histogram2d(before.targets, after.targets, bins=CLASSES)[0]
    assert table.min() > 140 and table.max() < 260  # 200 in the mean


@pytest.mark.parametrize("share", SHARES)
def test_a_share_of_the_dots_has_the_colour_of_the_class_and_all_else_is_as_it_was(share):
    before = examples(1000)
    after = with_dots(before, CLASSES, share, seed=3)
    own, area = told(after)
    assert area.unique().tolist() == [21]
    assert (own == before.targets).double().mean() == pytest.approx(share + (1 - share) / CLASSES, abs=0.04)
    spot = (after.images != before.images).any(1)
    assert torch.equal(after.targets, before.targets) and spot.sum((1, 2)).max() <= 21
    assert torch.equal(after.images, with_dots(before, CLASSES, share, seed=3).images)
    assert not torch.equal(after.images, with_dots(before, CLASSES, share, seed=4).images)


def test_colours_differ():
    for classes in (10, 100):
        wheel = colours(classes).int()
        far = (wheel[:, None] - wheel).abs().sum(2) + 1000 * torch.eye(classes, dtype=torch.int)
        assert far.min() > 1000 / classes


def test_noise_is_as_large_as_it_is_said_to_be_and_stays_on_the_scale():
    pixels = normalised(torch.full((4000, 3, 4, 4), 128, dtype=torch.uint8))
    found = (noisy(pixels, 0.1, torch.Generator().manual_seed(0)) - pixels) * 0.353
    deviations = found.std((1, 2, 3))
    assert found.var().item() == pytest.approx(0.1**2 / 2, rel=0.05)  # uniform up to 0.1²
    assert deviations.min() < 0.02 and 0.09 < deviations.quantile(0.99) < 0.12
    levels = noisy(pixels, 2.0, torch.Generator().manual_seed(0)) * 0.353 + 0.286
    assert levels.min() >= -1e-6 and levels.max() <= 1 + 1e-6


def test_no_two_networks_share_a_seed_but_those_that_are_the_same():
    setting = Setting(SETTINGS["small"].scale, Training(epochs=8))
    everyone = [one for kind in GROUPED for one in groups(setting, kind)]
    assert len(everyone) == 75 and len(seeds(setting)) == 10
    for kind in GROUPED:
        members = groups(setting, kind)
        assert [one.level for one in members] == [level for level in setting.levels(kind) for _ in range(5)]
        assert len({one.seed for one in members}) == 25
    different = set(everyone) | set(seeds(setting))
    assert len(different) == len({one.seed for one in different}) == 75  # ten of them twice as clean groups
    some = replace(setting, chosen=(0, 2, 4))
    assert all(set(groups(some, kind)) < set(groups(setting, kind)) for kind in GROUPED)
    assert [one.epochs for one in run(setting, 1)] == [0, 1, 2, 4, 8] and {one.seed for one in run(setting, 1)} == {1}


def tiny(classes):
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten()),
        nn.Linear(36, len(classes)),
    )


TINY = replace(
    SETTINGS["small"],
    scale=replace(SETTINGS["small"].scale, networks={"a": tiny}, train=320, test=200, k=24),
    seeds=3,
    members=2,
    labels=(0, 1),
    shortcuts=(0, 1),
    noise=(0, 1),
    epochs=(0, 1, 8),
    chosen=(0, 1),
)


@pytest.fixture
def digits_only(monkeypatch, tmp_path):
    monkeypatch.setattr(_scale, "FASHION", tmp_path / "none")
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "store"))


def test_fewer_epochs_are_the_beginning_of_more():
    some = Examples(examples(96).images.contiguous(), examples(96).targets)
    short, long = (_scale.fresh(tiny, tuple(map(str, range(CLASSES))), 0) for _ in range(2))
    fit(short, some, Training(epochs=2), seed=5)
    fit(long, some, Training(epochs=8), seed=5, goal=Goal(float("inf"), every=2 * 96), watched=some)
    for name, weights in short.state_dict().items():
        assert torch.equal(weights, long.state_dict()[name]), name


@pytest.mark.slow
def test_the_last_of_a_run_is_a_network_of_the_seeds_and_the_first_has_learnt_nothing(digits_only, tmp_path):
    data = _scale.load(TINY.scale)
    first, *_, last = (network(one, "a", data, TINY, tmp_path) for one in run(TINY, 1))
    same = network(seeds(TINY)[1], "a", data, TINY, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(last.parameters(), same.parameters(), strict=True))
    fresh = _scale.fresh(tiny, data.classes, 1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), fresh.parameters(), strict=True))


def test_pictures_of_shortcuts_are_those_of_all_with_dots_that_say_nothing(digits_only):
    data = _scale.load(replace(TINY.scale, k=100))
    plain, dotted = pictures("labels", data), pictures("shortcuts", data)
    assert plain is data.coded and dotted.k == 100 and dotted.fingerprint != plain.fingerprint
    before, after = (np.stack([np.asarray(one) for one in images]) for images in (plain, dotted))
    changed = [(before != one).any(3).sum((1, 2)).min() for one in after]  # pixels of the nearest, in any order
    assert min(changed) >= 1 and max(changed) <= 21


def population(levels, near, far, seed):
    """Networks whose distances are noise, but that those of one level are nearer."""
    rng, places = np.random.default_rng(seed), np.array(levels)
    matrix = np.where(places[:, None] == places, near, far) + rng.uniform(0, 0.1, (len(levels),) * 2)
    return matrix + matrix.T


def test_who_knows_the_truth_is_ahead_of_noise_and_not_of_who_knows_it_too():
    levels = [level for level in range(3) for _ in range(4)]
    found = {}
    for number in range(2):
        noise = {name: population(range(12), 1, 1, number) for name in NAMES}
        right = {name: population(levels, 1, 2, 50 + number) for name in ("d_p", "output/Jensen-Shannon")}
        facts = ([float(level) for level in levels], [0.5] * 12, [0.5] * 12)
        truth = {name: noise["representation/RSA"] for name in TRUTHS}
        grouped = Measured(*facts, {}, noise | right)
        found[str(number)] = Known(
            replace(grouped, truths=truth), {"labels": grouped}, [replace(grouped, distances=noise)]
        )
    accuracy, _, _, labels, conforming, runs = known(found, draws=200)
    assert labels.score["d_p"].value == labels.score["d_p"].low == conforming.score["d_p"].value == 1
    assert labels.ahead["output/Jensen-Shannon"].value == labels.ahead["output/Jensen-Shannon"].high == 0
    assert labels.ahead["representation/RSA"].low > 0.2
    assert labels.score["representation/RSA"].value == pytest.approx(labels.chance, abs=0.15)
    assert accuracy.score["representation/RSA"].value == pytest.approx(1)
    assert accuracy.score["d_p"].low < 0 < accuracy.score["d_p"].high
    assert accuracy.ahead["representation/RSA"].high < 0
    assert labels.by_architecture["d_p"] == [1, 1] and 0 < runs.score["d_p"].value < 1


def test_settings_are_json_and_networks_of_the_paper_are_those_it_names():
    for setting in SETTINGS.values():
        assert json.loads(json.dumps(setting.to_dict()))["seeds"] == 10
        assert not setting.training.anneal and setting.epochs[-1] == setting.training.epochs
    with torch.device("meta"):
        sizes = {
            name: sum(weights.numel() for weights in build(tuple(map(str, range(100)))).parameters())
            for name, build in SETTINGS["paper"].scale.networks.items()
        }
    assert 11e6 < sizes["resnet18"] < 12e6 and 85e6 < sizes["vit_base_patch32_224"] < 90e6


def test_pictures_of_several_sizes_are_cut_to_one(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Image

    features = Features({"img": Image(), "label": ClassLabel(names=["cat", "dog"])})
    striped = [np.zeros((20, 12, 3), np.uint8), np.zeros((12, 30, 3), np.uint8)]
    striped[0][:4], striped[1][:, -9:] = 255, 255  # outside the square in the middle
    rows = {"img": striped, "label": [0, 1]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    task = from_hub(str(tmp_path), "train", side=6)
    assert task.images.shape == (2, 6, 6, 3) and task.images.max() < 40 and sorted(task.labels) == [0, 1]


def test_a_network_that_the_scale_does_not_have_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no network 'vgg'"):
        run_study("resi", ["--work", str(tmp_path), "--architecture", "vgg"])


@pytest.mark.slow
def test_the_study_runs_and_a_second_time_from_what_is_kept(digits_only, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(resi, "SETTINGS", {"small": TINY})
    monkeypatch.setattr(_known, "DRAWS", 100)
    words = ["--work", str(tmp_path / "work"), "--seeds", "2", "--output", str(tmp_path / "out")]
    run_study("resi", words)
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "resi.json").read_text())
    assert (tmp_path / "out" / "resi.png").stat().st_size > 10_000 and "d_p ahead of" in said
    tests = {column["name"]: column for column in figures["tests"]}
    assert list(tests) == [
        *TRUTHS,
        *(name + more for name in GROUPED for more in ("", ", conformity")),
        "run",
    ]
    assert all(0.5 < tests[name]["score"]["d_p"]["value"] <= 1 for name in ("labels", "labels, conformity", "run"))
    facts = figures["networks"]["a"]
    assert facts["labels"]["accuracy"][0] > facts["labels"]["accuracy"][1] + 0.2  # which learnt noise
    assert facts["shortcuts"]["helped"][1] > facts["shortcuts"]["accuracy"][1]  # which looks at the dot
    monkeypatch.setattr(resi, "_measure", None)  # nothing is measured twice
    run_study("resi", words)
    assert json.loads((tmp_path / "out" / "resi.json").read_text())["tests"] == figures["tests"]
