"""What the mixture is compared with: that each figure is what it says, and that a run goes on where it was stopped."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_images, transform
from realdata import build_or_skip

from hf_infodist.coding.trainer import train_codelength
from hf_infodist.models.heads import match_labels
from hf_infodist.models.load import load_classifier
from hf_infodist.pair import Execution, prepare_pair
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies import run_study, search, tightness
from hf_infodist.studies.measures import coders as _coders
from hf_infodist.studies.measures.coders import ByProtocol, BySearch, coders
from hf_infodist.studies.measures.preqtorch import encode
from hf_infodist.studies.networks.pairs import PAIRS, Setting, load_pair, relabelled, without_head
from hf_infodist.studies.tightness import COLUMNS, Cell, Row

K = 96
main = partial(run_study, "tightness")
CHEAP = ["--pair", "cnn-vit", "-k", "64", "--column", "static", "--column", "retraining"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    nets = (load_classifier(SmallNet(seed=seed), transform=transform) for seed in (0, 1))
    return prepare_pair(*nets, noise_images(K), execution=Execution(home=tmp_path_factory.mktemp("store")))


@pytest.fixture
def one_rate(monkeypatch):
    """Leave one rate to the block-wise ways and to preqtorch, for speed."""
    monkeypatch.setattr(_coders, "RATES", (1e-3,))
    monkeypatch.setattr(_coders, "ADAM_RATES", (1e-3,))


def logits(classifier):
    images = torch.stack([transform(image) for image in noise_images(4)]).double()
    with torch.no_grad():
        return classifier.network(images).numpy()


# Ways to code


@pytest.mark.parametrize("name", ["standard", "thorough"])
def test_a_learner_alone_costs_what_it_costs_in_a_mixture_that_stops_nobody(pair, name):
    """But for those that learn from another one in which order the classes come, or read its features."""
    apart = (spec for spec in PROTOCOLS[name].learners if spec.kind != "adapted")
    specs = tuple(spec for spec in apart if "permuted" not in (spec.kind, spec.start))
    everybody = replace(PROTOCOLS[name], learners=specs, reduction=None)
    mixture = train_codelength(pair, "b_given_a", everybody)
    every, accelerator = coders(Setting("", "", "", protocol=name)), make_accelerator()
    alone = {key.partition("/")[2]: way for key, way in every.items() if key.startswith("single/")}
    learners = [learner for learner in mixture.learners if learner.name != "pool"]
    assert alone.keys() - {"permuted"} == {learner.name for learner in learners}
    for learner in learners:
        outcome = alone[learner.name].code(pair, accelerator)
        assert outcome.nats == pytest.approx(learner.nats, rel=1e-12)
        assert outcome.gradient_images == learner.gradient_images


def test_static_costs_what_results_call_unlearnt(pair):
    accelerator = make_accelerator()
    static = coders(Setting("", "", ""))["static/static"].code(pair, accelerator)
    code = train_codelength(pair, "b_given_a", PROTOCOLS["single"])
    assert static.nats == pytest.approx(code.static_nats, rel=1e-12) and static.gradient_images == 0


def test_block_wise_ways_are_the_preset_at_four_rates_with_and_without_restart():
    every = coders(Setting("", "", ""), seed=3)
    for column, restart in (("retraining", True), ("continuing", False)):
        protocols = [way.protocol for name, way in every.items() if name.startswith(column)]
        assert sorted({p.learners[0].lr for p in protocols}) == [3e-4, 1e-3, 3e-3, 1e-2]
        assert {p.learners[0].batchnorm for p in protocols} == {"frozen", "adapting"} and len(protocols) == 8
        for p in protocols:
            assert replace(PROTOCOLS["blockwise"], learners=p.learners, restart=restart, seed=3) == p


def test_a_large_pair_is_coded_in_fewer_ways():
    small, large = (coders(Setting("", "", "", large=large)) for large in (False, True))
    assert large.keys() < small.keys()
    assert {name.partition("/")[0] for name in large} == set(COLUMNS)


def test_a_protocol_that_diverges_has_no_nats(pair, monkeypatch):
    def broken(*ends, **options):
        raise _coders.UnfitError("it", "cannot", "learn")

    monkeypatch.setattr(_coders, "train_codelength", broken)
    outcome = ByProtocol(PROTOCOLS["single"]).code(pair, make_accelerator())
    assert outcome.nats is None and outcome.spent == PROTOCOLS["single"].gradient_images(K)


def test_a_search_in_which_everything_diverges_has_no_nats(pair, monkeypatch):
    def broken(*ends, **options):
        raise _coders.UnfitError("it", "cannot", "learn")

    monkeypatch.setattr(search, "train_codelength", broken)
    assert BySearch(3, 25.0, 0).code(pair, make_accelerator()).nats is None


# preqtorch


@pytest.mark.parametrize("batchnorm", ["frozen", "adapting"])
@pytest.mark.parametrize("encoder", ["blocks", "replay"])
def test_preqtorch_at_rate_zero_costs_what_no_learning_costs(pair, encoder, batchnorm):
    accelerator = make_accelerator()
    static = coders(Setting("", "", ""))["static/static"].code(pair, accelerator).nats
    assert encode(pair, encoder, 0.0, batchnorm=batchnorm, accelerator=accelerator).nats == pytest.approx(static)


@pytest.mark.parametrize("encoder", ["blocks", "replay"])
def test_preqtorch_learns_and_is_repeatable(pair, encoder):
    accelerator = make_accelerator()
    still, first, again, other = (
        encode(pair, encoder, lr, seed=seed, accelerator=accelerator)
        for lr, seed in ((0.0, 0), (3e-3, 0), (3e-3, 0), (3e-3, 1))
    )
    assert first == again and first.nats < still.nats and first.nats != other.nats


def test_preqtorch_retrains_with_the_gradients_of_the_preset(pair):
    done = encode(pair, "blocks", 1e-3, accelerator=make_accelerator())
    assert done.gradient_images == PROTOCOLS["blockwise"].gradient_images(K)


def test_preqtorch_leaves_the_models_and_standard_output_alone(pair, capsys):
    before = [value.clone() for value in pair.a.network.state_dict().values()]
    encode(pair, "replay", 1e-2, accelerator=make_accelerator())
    encode(pair, "blocks", 1e-2, accelerator=make_accelerator())
    assert all(map(torch.equal, before, pair.a.network.state_dict().values()))
    assert not capsys.readouterr().out


# Pairs


def test_names_of_pairs_are_unique_and_some_are_held_out():
    names = [setting.name for setting in PAIRS]
    assert len(set(names)) == len(names) and 2 <= sum(setting.held_out for setting in PAIRS) < len(names) / 2


def test_a_relabelled_classifier_says_the_same_under_other_names():
    net = load_classifier(SmallNet(), transform=transform, labels=["a", "b", "c", "d", "e"])
    twin = relabelled(net)
    said, new = logits(net), logits(twin)
    assert np.allclose(np.sort(said), np.sort(new), rtol=1e-12) and not np.allclose(said, new)
    assert match_labels(net.labels, twin.labels) is None and twin.weights_hash != net.weights_hash


def test_a_classifier_without_its_head_keeps_its_features_and_matches_nothing():
    net = load_classifier(SmallNet(), transform=transform, labels=["a", "b", "c", "d", "e"])
    left = without_head(net)
    assert left.num_classes == len(left.labels) == 4
    assert np.allclose(logits(left), logits(net)[:, :4], rtol=1e-12)
    assert match_labels(left.labels, net.labels) is None
    assert torch.count_nonzero(left.student(5, None).module.head.weight) == 0


def test_missing_checkpoints_are_an_error_that_says_how_to_build_them(tmp_path):
    with pytest.raises(LookupError, match=r"tests/realdata\.py"):
        main(["--work", str(tmp_path), "--data", str(tmp_path / "none"), "--pair", "other-half"])


@pytest.mark.slow
@pytest.mark.parametrize("setting", PAIRS, ids=lambda setting: setting.name)
def test_every_pair_can_be_coded(setting, tmp_path):
    names = {name.rpartition("{data}/")[2] for name in (setting.student, setting.teacher, setting.images)}
    folders = {build_or_skip(name).parent for name in names if not name.startswith("demo") and name != "digits"}
    setting, accelerator = replace(setting, k=32), make_accelerator()
    pair = load_pair(setting, next(iter(folders), tmp_path), seed=0, accelerator=accelerator)
    every = coders(setting)
    assert every["static/static"].code(pair, accelerator).nats > 0
    assert math.isfinite(every[f"mixture/{setting.protocol}"].code(pair, accelerator).nats)


# Figures


def cell(name, nats, gradient_images=K, spent=K):
    return Cell(nats, gradient_images, spent, {}, name, name, 1.0)


def row(name="one", held_out=False, **nats):
    cells = [cell(key.replace("_", "/"), value) for key, value in nats.items()]
    return Row(Setting(name, "", "", k=K, held_out=held_out), cells)


def test_the_cheapest_of_a_column_counts_and_what_diverged_does_not():
    some = row(mixture_standard=6.0, retraining_a=None, retraining_b=4.0, retraining_c=5.0, static_static=None)
    assert some.ratio("retraining") == 1.5 and some.ratio("static") is None and some.ratio("search") is None
    column = some.to_dict()["columns"]["retraining"]
    assert column["best"] == "retraining/b" and column["nats"] == 4.0
    assert column["gradient_images_per_image"] == 1 and column["spent_per_image"] == 3 and column["seconds"] == 3


def test_means_are_geometric_and_held_out_pairs_are_told_apart():
    rows = [row("one", mixture_s=1.0, single_a=2.0), row("two", True, mixture_s=8.0, single_a=2.0, search_best=1.0)]
    means = tightness._means(rows)
    assert means["all"] == pytest.approx({"single": math.sqrt(0.5 * 4), "search": 8})
    assert means["not held out"] == pytest.approx({"single": 0.5})
    assert means["held out"] == pytest.approx({"single": 4, "search": 8})


@pytest.mark.slow
def test_the_command_fills_every_column_and_writes_all_figures(tmp_path, capsys, one_rate):
    words = ["--work", str(tmp_path), "--pair", "cnn-vit", "-k", "48", "--trials", "2"]
    main([*words, "--output", str(tmp_path / "tightness.json")])
    table = capsys.readouterr().out
    figures = json.loads((tmp_path / "tightness.json").read_text())
    (pair,) = figures["pairs"]
    assert set(pair["columns"]) == set(COLUMNS) and pair["k"] == 48 and not pair["held_out"]
    nats = {cell["name"]: cell["nats"] for cell in pair["cells"]}
    mixture = nats["mixture/standard"]
    for name, column in pair["columns"].items():
        assert column["nats"] == min(n for key, n in nats.items() if key.startswith(f"{name}/") and n is not None)
        assert f"{column['nats']:.1f}" in table
        if name != "mixture":
            assert pair["ratios"][name] == pytest.approx(mixture / column["nats"])
    assert figures["geometric_means"]["all"] == pytest.approx(pair["ratios"])
    (cell,) = [cell for cell in pair["cells"] if cell["name"] == "mixture/standard"]
    learners = cell["details"]["learners"]
    names = [spec.name for spec in PROTOCOLS["standard"].learners if "permuted" not in (spec.kind, spec.start)]
    assert [learner["name"] for learner in learners] == [*names, "pool"]
    assert {"torch", "optuna", "preqtorch"} <= figures["versions"].keys()


# Going on


@pytest.mark.slow
def test_a_rerun_computes_only_what_is_missing(tmp_path, monkeypatch, capsys, one_rate):
    runs, code = [], ByProtocol.code

    def counted(self, *args):
        runs.append(self)
        return code(self, *args)

    monkeypatch.setattr(ByProtocol, "code", counted)
    words = ["--work", str(tmp_path), *CHEAP]
    main(words[:-2])
    assert len(runs) == 1
    main(words)
    assert len(runs) == 2
    table = capsys.readouterr().out
    main(words)
    assert len(runs) == 2 and table.endswith(capsys.readouterr().out)
    main([*words, "--seed", "1"])
    assert len(runs) == 4
    main([*words, "-k", "32"])
    assert len(runs) == 6


def test_a_preset_that_has_changed_is_coded_again(tmp_path, monkeypatch, one_rate):
    words = ["--work", str(tmp_path), *CHEAP]
    main(words)
    lines = (tmp_path / "cnn-vit.jsonl").read_text()
    monkeypatch.setitem(PROTOCOLS, "blockwise", replace(PROTOCOLS["blockwise"], passes=1))
    main(words)
    again = (tmp_path / "cnn-vit.jsonl").read_text()
    assert again.startswith(lines) and again.count("\n") == 2 + 1


def test_a_line_cut_short_is_computed_again(tmp_path, capsys, one_rate):
    words = ["--work", str(tmp_path), *CHEAP]
    main(words)
    table, file = capsys.readouterr().out, tmp_path / "cnn-vit.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]) + lines[-1][:40])
    main(words)
    assert capsys.readouterr().out == table
    again = [json.loads(line) for line in file.read_text().splitlines()]
    assert [c["nats"] for c in again] == [json.loads(line)["nats"] for line in lines]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_figures(tmp_path):
    words = ["--pair", "cnn-vit", "-k", "128", "--trials", "3", "--column", "static", "--column", "single"]
    words += ["--column", "search"]
    command = [sys.executable, "-m", "hf_infodist.cli", "study", "tightness", *words]
    subprocess.run([*command, "--work", tmp_path / "whole"], check=True, capture_output=True)
    file = tmp_path / "halves" / "cnn-vit.jsonl"
    with subprocess.Popen([*command, "--work", file.parent], stderr=subprocess.DEVNULL) as process:
        while not file.exists() or file.read_bytes().count(b"\n") < 6:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    kept = file.read_text().rpartition("\n")[0].splitlines()
    subprocess.run([*command, "--work", file.parent], check=True, capture_output=True)
    lines = file.read_text().splitlines()
    assert lines[: len(kept)] == kept and 6 <= len(kept) < len(lines)
    whole = (tmp_path / "whole" / "cnn-vit.jsonl").read_text().splitlines()
    for first, second in zip(map(json.loads, whole), map(json.loads, lines), strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}
