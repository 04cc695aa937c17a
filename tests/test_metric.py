"""The metric of `evaluate`: loaded as users load it, it says what the package says."""

import copy
import json
import re
import sys
from functools import cache

import card_examples
import datasets
import evaluate
import huggingface_hub
import numpy as np
import pytest
from card_examples import CARD, ROOT
from PIL import Image

from hf_infodist.distances.distance import information_distance
from hf_infodist.distances.transfer import rank_checkpoints
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.images.sample import load_images
from hf_infodist.metric import LABELS, LabelCodelength
from hf_infodist.protocol import PROTOCOLS

FOLDER = ROOT / "metrics" / "infodist"
DIGITS = {"images": "digits", "k": 64}
PAIR = {"predictions": ["demo:cnn"], "references": ["demo:vit"], **DIGITS}
LISTS = ("infodist", "prediction_given_reference", "reference_given_prediction")


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory):
    """Keep what `evaluate` writes out of the user's folders: its copy of the script, and its tables of inputs."""
    folder = tmp_path_factory.mktemp("evaluate")
    forget_modules()  # that other files of tests have loaded from elsewhere
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "modules"))  # undone with the rest, as evaluate's own insertion is
        for name in ("modules", "metrics"):
            patch.setattr(evaluate.config, f"HF_{name.upper()}_CACHE", folder / name)
        yield folder
    forget_modules()


def forget_modules():
    for name in [name for name in sys.modules if name.partition(".")[0] == "evaluate_modules"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def store(caches, monkeypatch):
    """Share the models' outputs among the tests of this file, where others start afresh."""
    monkeypatch.setenv("INFODIST_HOME", str(caches / "store"))


@pytest.fixture(scope="module")
def metric(caches):
    return load()


def load(protocol="standard", path=FOLDER, **options):
    return evaluate.load(str(path), protocol, **options)


@cache
def expected(protocol="standard", seed=0):
    result = information_distance("demo:cnn", "demo:vit", "digits", k=64, protocol=protocol, seed=seed)
    nats = (result.nats, result.a_given_b.nats, result.b_given_a.nats)
    return {name: [value] for name, value in zip(LISTS, nats, strict=True)} | {"mean_infodist": result.nats}


def same(results, wanted, rel=1e-4, abs=1e-6):
    assert list(results) == list(wanted)
    return all(results[name] == pytest.approx(wanted[name], rel=rel, abs=abs) for name in wanted)


def refused(error, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 3
    return str(caught.value)


# What it says


@pytest.mark.parametrize("protocol", ["standard", "paper"])
@pytest.mark.parametrize("path", [FOLDER, FOLDER / "infodist.py"], ids=["folder", "file"])
def test_the_metric_says_what_the_package_says(path, protocol):
    assert same(load(protocol, path).compute(**PAIR), expected(protocol))


def test_a_protocol_of_the_call_replaces_the_configuration(metric):
    assert same(metric.compute(**PAIR, protocol="paper"), expected("paper"))


def test_the_configuration_is_standard_by_default():
    assert evaluate.load(str(FOLDER)).config_name == "standard"


@pytest.mark.parametrize("protocol", ["standard", pytest.param("sampled", marks=pytest.mark.slow)])
def test_a_seed_draws_images_and_labels(protocol):
    wanted = expected(protocol, seed=3)
    assert not same(wanted, expected(protocol))
    assert same(load(protocol).compute(**PAIR, seed=3), wanted)
    assert same(load(protocol, seed=3).compute(**PAIR), wanted)


def test_images_may_be_objects(metric):
    assert same(metric.compute(**PAIR | {"images": load_images("digits", k=64)}), expected())
    pictures = [Image.new("RGB", (8, 8), (index, 0, 0)) for index in range(32)]
    assert metric.compute(**PAIR | {"images": pictures, "k": None})["mean_infodist"] > 0


def test_configuration_split_and_column_reach_the_dataset(metric):
    table = datasets.Dataset.from_dict({"left": [Image.new("RGB", (8, 8))] * 2}).cast_column("left", datasets.Image())
    wish = PAIR | {"images": datasets.DatasetDict(first=table), "k": 2}
    assert metric.compute(**wish, split="first", column="left")["mean_infodist"] > 0
    for name in ("config", "split", "column"):
        assert "nowhere" in refused(NotFoundError, metric.compute, **wish, **{name: "nowhere"})


def test_numbers_are_python_floats_that_evaluate_can_save(metric, tmp_path):
    results = metric.compute(**PAIR)
    assert all(type(value) is float for name in LISTS for value in results[name])
    assert type(results["mean_infodist"]) is float
    saved = json.loads(evaluate.save(tmp_path / "results.json", **results).read_text())
    assert {name: saved[name] for name in results} == results


def test_swapping_a_pair_swaps_its_directions_and_keeps_the_distance(metric):
    models = ["demo:cnn", "demo:vit"]
    results = metric.compute(predictions=models, references=models[::-1], **DIGITS)
    assert results["prediction_given_reference"] == results["reference_given_prediction"][::-1]
    assert results["infodist"][0] == results["infodist"][1] == results["mean_infodist"]


# Ways of evaluate to give inputs


def test_pairs_can_be_added_one_by_one_and_in_batches(metric):
    wanted = metric.compute(predictions=["demo:cnn", "demo:vit"], references=["demo:vit"] * 2, **DIGITS)
    metric.add(prediction="demo:cnn", reference="demo:vit")
    metric.add_batch(predictions=["demo:vit"], references=["demo:vit"])
    assert same(metric.compute(**DIGITS), wanted)


def test_it_runs_in_memory_and_under_the_name_of_an_experiment(caches):
    for options in ({"keep_in_memory": True}, {"experiment_id": "mine"}, {"cache_dir": str(caches / "other")}):
        assert same(load(**options).compute(**PAIR), expected())


def test_it_can_be_combined():
    named = evaluate.combine({name: load(name) for name in ("standard", "paper")}).compute(**PAIR)
    listed = evaluate.combine([load("standard"), load("paper")]).compute(**PAIR)
    for prefixes in (("standard", "infodist_0"), ("paper", "infodist_1")):
        wanted = pytest.approx(expected(prefixes[0])["infodist"], rel=1e-4)
        assert named[f"{prefixes[0]}_infodist"] == wanted and listed[f"{prefixes[1]}_infodist"] == wanted


def test_it_is_a_metric_that_can_be_inspected(capsys, tmp_path):
    assert load(module_type="metric").module_type == "metric"
    evaluate.inspect_evaluation_module(str(FOLDER), str(tmp_path))
    assert "evaluate_modules.metrics.infodist" in capsys.readouterr().out


def test_its_help_names_every_input(metric):
    for name in (*PAIR, "seed", "protocol", "config", "split", "column", "streaming"):
        assert f"\n    {name} (" in metric.compute.__doc__


# The labels of a dataset


STARTS = ["random:demo:cnn", "demo:cnn"]
LABELLED = {"predictions": STARTS, "images": "digits", "k": 40}


def test_labels_cost_what_the_package_says():
    results = load(LABELS).compute(**LABELLED)
    digits = load_images("digits", k=40)
    shares = np.bincount(digits.labels) / 40
    entropy = -sum(share * np.log(share) for share in shares if share)
    found = {one.id: one.image_nats for one in rank_checkpoints(STARTS, digits).candidates}
    for i, prices in enumerate(map(found.get, STARTS)):
        assert results["nats"][i] == pytest.approx(prices.sum()) and results["tail_nats"][i] < results["nats"][i]
        assert results["tail_nats"][i] == pytest.approx(prices[20:].sum())
        assert results["nats_per_label"][i] == pytest.approx(prices.mean())
        assert results["saved_nats_per_label"][i] == pytest.approx(entropy - prices.mean())
        assert results["log_loss"][i] == pytest.approx(prices[30:].mean())
        assert 0 < results["stderr_nats"][i] < results["nats"][i]
    assert results["accuracy"][0] < results["accuracy"][1] == 1
    assert all(type(value) is float for values in results.values() for value in values)


def test_models_whose_labels_are_priced_can_be_added_and_the_metric_copied():
    metric = copy.copy(load(LABELS, seed=3))
    assert type(metric) is LabelCodelength
    metric.add(prediction=STARTS[0])
    metric.add_batch(predictions=STARTS[1:])
    added = metric.compute(images="digits", k=40)
    assert same(added, load(LABELS).compute(**LABELLED, seed=3))
    assert not same(added, load(LABELS).compute(**LABELLED))


def test_labels_are_those_of_a_column():
    digits = load_images("digits", k=40)
    table = datasets.Dataset.from_dict({"image": list(digits), "kind": digits.labels, "odd": digits.labels})
    table = table.map(lambda row: {"odd": row["odd"] % 2}).cast_column("image", datasets.Image())
    metric = load(LABELS)
    wish = {"predictions": ["demo:cnn"], "images": table, "k": 40}
    kinds, odd = (metric.compute(**wish, label=name)["saved_nats_per_label"][0] for name in ("kind", "odd"))
    assert 0 < odd <= np.log(2) < kinds <= np.log(10)
    assert "--label" in refused(UnfitError, metric.compute, **wish)
    assert "nowhere" in refused(NotFoundError, metric.compute, **wish, label="nowhere")


def test_labels_take_no_references_and_no_protocol_of_distances():
    metric = load(LABELS)
    assert "leave out references" in refused(UsageError, metric.compute, **LABELLED, references=["demo:vit"] * 2)
    assert "leave out references" in refused(UsageError, metric.add, prediction="demo:cnn", reference="demo:vit")
    assert "standard, thorough" in refused(UsageError, metric.compute, **LABELLED, protocol="paper")
    for call in (metric.compute, metric.add, metric.add_batch):
        assert "no models" in refused(UsageError, call)
    assert "demo:cnn, demo:vit" in refused(NotFoundError, metric.compute, **LABELLED | {"predictions": ["demo:x"]})
    for name in ("predictions", "label", "images", "k", "seed", "protocol", "config", "split", "column", "streaming"):
        assert f"\n    {name} (" in metric.compute.__doc__


# What it refuses


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"predictions": "demo:cnn"}, "not a list"),
        ({"references": "demo:vit"}, "not a list"),
        ({"references": None}, "references missing"),
        ({"predictions": None}, "predictions missing"),
        ({"predictions": None, "references": None}, "no models"),
        ({"predictions": [], "references": []}, "no models"),
        ({"predictions": ["demo:cnn"] * 2}, "2 predictions cannot be compared with 1 references"),
        ({"predictions": [3]}, "of type int"),
        ({"predictions": 3}, "of type int"),
        ({"protocol": "nope"}, "unknown protocol 'nope'"),
        ({"k": 0}, "k = 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(metric, inputs, said):
    assert said in refused(UsageError, metric.compute, **PAIR | inputs)


def test_settings_that_cannot_work_are_refused_when_it_is_loaded():
    assert "unknown protocol 'nope'" in refused(UsageError, load, "nope")
    assert "in every process" in refused(UsageError, load, num_process=2, process_id=1)


def test_models_are_refused_when_they_are_added(metric):
    assert "not a list" in refused(UsageError, metric.add_batch, predictions="demo:cnn", references="demo:vit")
    assert "references missing" in refused(UsageError, metric.add_batch, predictions=["demo:cnn"])
    assert "reference missing" in refused(UsageError, metric.add, prediction="demo:cnn")
    assert "of type int" in refused(UsageError, metric.add, prediction=3, reference="demo:cnn")
    assert len(metric) == 0


def test_a_misspelt_argument_is_named(metric):
    with pytest.raises(TypeError, match="colum"):
        metric.compute(**PAIR, colum="image")


def test_all_names_are_checked_before_anything_is_computed(metric, monkeypatch, tmp_path):
    monkeypatch.setenv("INFODIST_HOME", str(tmp_path / "unused"))
    models = {"predictions": ["demo:cnn", "demo:cnn"], "references": ["demo:vit", "demo:nobody"]}
    assert "demo:cnn, demo:vit" in refused(NotFoundError, metric.compute, **PAIR | models)
    assert not (tmp_path / "unused").exists()


def test_the_next_call_is_not_spoilt_by_an_error(metric):
    refused(NotFoundError, metric.compute, **PAIR | {"predictions": ["demo:nobody"]})
    refused(UsageError, metric.compute, **PAIR | {"references": None})
    assert same(metric.compute(**PAIR), expected())


def test_a_pipeline_of_evaluate_has_no_names_to_give(metric):
    pixels = datasets.Dataset.from_dict({"image": [Image.new("RGB", (8, 8))], "label": [0]})
    data = pixels.cast_column("image", datasets.Image())
    evaluator = evaluate.evaluator("image-classification")
    model = str(ROOT / "hf_infodist" / "models" / "demo" / "vit")
    assert "by name" in refused(UsageError, evaluator.compute, model_or_pipeline=model, data=data, metric=metric)


def test_what_of_evaluate_fails_whatever_the_metric():
    assert not hasattr(huggingface_hub, "Repository")  # of which `evaluate-cli create` makes use
    pytest.importorskip("pandas", "3")
    from evaluate.visualization import radar_plot

    figures = [{"speed": 1.0, "size": 2.0, "cost": 3.0}, {"speed": 2.0, "size": 1.0, "cost": 4.0}]
    with pytest.raises(ValueError, match="zip"):
        radar_plot(data=figures, model_names=["one", "other"])


# Its card and its page


def test_the_quick_start_of_the_card_prints_what_it_documents(tmp_path):
    (code, documented), *_ = card_examples.examples()
    (printed,) = card_examples.run(code, tmp_path)
    assert code.startswith("import evaluate\n")
    assert same(printed, card_examples.read(documented), rel=0.05)


@pytest.mark.slow
def test_the_examples_of_the_card_print_what_they_document(tmp_path):
    examples = card_examples.examples()
    printed = card_examples.run("".join(code for code, _ in examples), tmp_path)
    assert len(printed) == len(examples) == 4
    assert all(same(p, card_examples.read(e[1]), rel=0.05, abs=1e-3) for p, e in zip(printed, examples, strict=True))


def test_the_suite_of_the_card_compares_a_model_with_its_references(caches, monkeypatch):
    code, call = [block for block in card_examples.code_blocks() if "uite" in block]
    (caches / "to_the_demos").mkdir()
    (caches / "to_the_demos" / "to_the_demos.py").write_text(code)
    monkeypatch.chdir(ROOT)
    names = {"evaluate": evaluate}
    exec(call.replace('"to_the_demos"', repr(str(caches / "to_the_demos"))), names)
    ((nearest, other),) = [task["infodist"] for task in names["results"]]
    assert nearest < 0.01 and other == pytest.approx(expected()["mean_infodist"], rel=1e-4)
    assert names["results"][0]["task_name"] == "digits"


def test_the_card_names_every_protocol():
    card = CARD.read_text(encoding="utf-8")
    assert all(f"`{name}`" in card for name in (*PROTOCOLS, LABELS))


def test_the_card_has_the_front_matter_of_a_space():
    front = CARD.read_text(encoding="utf-8").split("---\n")[1]
    for line in ("sdk: gradio", "app_file: app.py", "pinned: false", "- evaluate", "- metric"):
        assert f"{line}\n" in front
    assert len(re.search("short_description: (.*)", front)[1]) <= 60
    assert (FOLDER / "app.py").is_file() and "hf-infodist" in (FOLDER / "requirements.txt").read_text().split()


PAGE = """
import sys
sys.path.insert(0, sys.argv[1])
import app, evaluate, gradio_client
from evaluate.utils import launch_gradio_widget

_, url, _ = app.demo.launch(prevent_thread_lock=True, quiet=True)
client = gradio_client.Client(url, verbose=False)
def ask(name):
    try:
        return client.predict(name, "demo:vit", 64, api_name="/compare")
    except gradio_client.exceptions.AppError as error:
        return str(error)
print({name: ask(name) for name in sys.argv[2:]})
app.demo.close(verbose=False)
try:
    launch_gradio_widget(app.METRIC)
except AttributeError as error:
    print({"widget": str(error)})
"""


@pytest.mark.slow
def test_the_page_compares_models_but_reads_no_files(tmp_path):
    (tmp_path / "org" / "name").mkdir(parents=True)
    bad = ["org/name", "/etc", "..", "../x", "~/x", "https://host/x", "random:demo:cnn", "demo:../../x", ""]
    names = " demo:cnn ", "demo:nobody", *bad
    quietly = {"GRADIO_ANALYTICS_ENABLED": "False"}
    page, widget = card_examples.run(PAGE, tmp_path, FOLDER, *names, cwd=tmp_path, **quietly)
    assert page.pop(" demo:cnn ")["data"][2][1] == pytest.approx(expected()["mean_infodist"], rel=1e-2)
    assert "demo:cnn, demo:vit" in page.pop("demo:nobody")
    assert all("is not a name that this page takes" in answer for answer in page.values()) and len(page) == len(bad)
    assert "inputs" in widget["widget"]  # why the page is not the one that evaluate would make


RANKS = """
import os, evaluate
from pathlib import Path
metric = evaluate.load("metrics/infodist", "standard")
pair = {"predictions": ["demo:cnn"], "references": ["demo:vit"], "images": "digits", "k": 64}
Path(os.environ["OUT"], os.environ["RANK"]).write_text(repr(metric.compute(**pair)))
"""


@pytest.mark.slow
def test_every_process_of_a_group_gets_the_number(tmp_path):
    two = "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"
    card_examples.run(RANKS, tmp_path, launcher=two, OUT=str(tmp_path))
    for rank in "01":
        assert same(card_examples.read((tmp_path / rank).read_text()), expected())
