"""Everything over a round trip through a hub: pushed by the libraries, read by name, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import card_examples
import pytest
import yaml
from hub import GUEST, OWNER, serve
from huggingface_hub import parse_eval_result_entries

from hf_infodist.distances.distance import information_distance
from hf_infodist.images.sample import load_images
from hf_infodist.models.names import DEMO
from hf_infodist.pair import Execution

pytestmark = pytest.mark.slow

INFODIST = Path(sys.executable).parent / "infodist"
OFFLINE = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"), "1")
NAMES = ["acme/a", "acme/b@v1", "--images", "acme/photos"]
SETTINGS = ["-k", "64", "--protocol", "standard"]

PUBLISH = """
import json, sys
from pathlib import Path

import datasets, timm
from huggingface_hub import HfApi
from timm.models import push_to_hf_hub
from transformers import AutoImageProcessor, AutoModelForImageClassification

demo, photos, suite = map(Path, sys.argv[1:])
arguments = json.loads((demo / "cnn" / "config.json").read_text())["model_args"]
push_to_hf_hub(timm.create_model(f"local-dir:{demo / 'cnn'}", pretrained=True), "acme/a", model_args=arguments)
for part in (AutoModelForImageClassification, AutoImageProcessor):
    part.from_pretrained(demo / "vit").push_to_hub("acme/b")
datasets.Dataset.from_parquet(str(photos)).push_to_hub("acme/photos")

api = HfApi()
api.create_tag("acme/b", tag="v1")
api.upload_file(path_or_fileobj=b"# Changed later", path_in_repo="README.md", repo_id="acme/b")
for name, folder in (("acme/infodist", Path("metrics/infodist")), ("acme/to_the_demos", suite)):
    api.create_repo(name, repo_type="space", space_sdk="gradio")
    api.upload_folder(repo_id=name, repo_type="space", folder_path=folder)
api.create_tag("acme/infodist", tag="v1", repo_type="space")
for name in ("acme/private", "acme/gated"):
    api.create_repo(name)
    api.upload_folder(repo_id=name, folder_path=demo / "cnn")
    datasets.Dataset.from_parquet(str(photos)).push_to_hub(f"{name}-photos")
"""


def python(environment, code, *words, rc=0):
    """Run Python code in a process of its own; return what it printed."""
    return command(environment, sys.executable, "-c", code, *words, rc=rc)[0]


def command(environment, *words, rc=0):
    """Run a command; return what it wrote to standard output and to standard error."""
    path = os.pathsep.join(filter(None, (str(card_examples.ROOT), os.environ.get("PYTHONPATH"))))
    env = os.environ | {"PYTHONPATH": path} | environment
    words = [str(word) for word in words]
    done = subprocess.run(words, cwd=card_examples.ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == rc, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Write a local dataset of 80 handwritten digits."""
    import datasets

    digits = load_images("digits", k=80)
    table = datasets.Dataset.from_dict({"image": list(digits), "label": digits.labels})
    path = tmp_path_factory.mktemp("photos") / "photos.parquet"
    table.cast_column("image", datasets.Image()).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def hub(tmp_path_factory, photos):
    """Serve a hub to which the libraries have pushed models, datasets and Spaces."""
    suite, *_ = [block for block in card_examples.code_blocks() if "class Suite" in block]
    folder = tmp_path_factory.mktemp("suite")
    (folder / "to_the_demos.py").write_text(suite.replace('"metrics/infodist"', '"acme/infodist"'))
    with serve(tmp_path_factory.mktemp("hub")) as hub:
        python(hub.environment(tmp_path_factory.mktemp("pusher"), OWNER), PUBLISH, DEMO, photos, folder)
        for kind, suffix in (("", ""), ("datasets/", "-photos")):
            hub[f"{kind}acme/private{suffix}"].private = True
            hub[f"{kind}acme/gated{suffix}"].gated = True
        yield hub


@pytest.fixture(scope="module")
def reader(hub, tmp_path_factory):
    """Return the environment of somebody without a token, whose caches fill from test to test."""
    return hub.environment(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def local(photos, tmp_path_factory):
    """Compare the same models and images as folders and files of this machine."""
    settings = {"k": 64, "protocol": "standard", "execution": Execution(home=tmp_path_factory.mktemp("store"))}
    return information_distance(str(DEMO / "cnn"), str(DEMO / "vit"), str(photos), **settings)


def nats(result):
    return [result[part]["nats"] for part in ("distance", "a_given_b", "b_given_a")]


@pytest.fixture(scope="module")
def compared(reader):
    return json.loads(command(reader, INFODIST, "compare", *NAMES, *SETTINGS, "--json")[0])


METRIC = """
import evaluate, json, sys
pairs = {"predictions": ["acme/a"], "references": ["acme/b@v1"]}
loaded = evaluate.load(sys.argv[1], "standard", revision=sys.argv[2] or None)
print(json.dumps(loaded.compute(**pairs, images="acme/photos", k=64)))
"""


def metric(environment, revision=""):
    return json.loads(python(environment, METRIC, "acme/infodist", revision))


def test_names_of_a_hub_give_the_nats_of_local_folders(compared, local):
    assert nats(compared) == pytest.approx(nats(local.to_dict()), rel=1e-6)
    assert compared["images"]["fingerprint"] == local.images.fingerprint


def test_revisions_become_commits_in_the_result(compared, hub):
    assert compared["model_a"]["revision"] == hub["acme/a"].refs["main"]
    assert compared["model_b"]["revision"] == hub["acme/b"].refs["v1"] != hub["acme/b"].refs["main"]
    assert compared["images"]["revision"] == hub["datasets/acme/photos"].refs["main"]


@pytest.mark.parametrize("revision", ["", "v1"])
def test_a_space_is_loaded_as_a_metric(reader, local, revision):
    results = metric(reader, revision)
    wanted = {"infodist": local, "prediction_given_reference": local.a_given_b}
    assert all(results[name] == pytest.approx([part.nats], rel=1e-6) for name, part in wanted.items())


def test_a_second_run_offline_asks_nothing_and_says_the_same(compared, reader, hub):
    online = metric(reader)
    asked = len(hub.log)
    offline = json.loads(command(reader | OFFLINE, INFODIST, "compare", *NAMES, *SETTINGS, "--json")[0])
    assert nats(offline) == nats(compared)
    assert all(offline[part] == compared[part] for part in ("model_a", "model_b", "images"))
    assert metric(reader | OFFLINE) == online
    assert len(hub.log) == asked


def test_a_private_space_is_loaded_with_a_token_only(hub, tmp_path, local):
    space = hub["spaces/acme/infodist"]
    try:
        space.private = True
        results = metric(hub.environment(tmp_path / "owner", OWNER))
        refused = python(
            hub.environment(tmp_path / "stranger"), METRIC.replace("print", ""), "acme/infodist", "", rc=1
        )
    finally:
        space.private = False
    assert results["mean_infodist"] == pytest.approx(local.nats, rel=1e-6) and not refused


def test_a_space_with_the_tag_is_listed_and_a_suite_runs_from_one(reader):
    code = """
import evaluate
print(evaluate.list_evaluation_modules("metric"))
print(evaluate.EvaluationSuite.load("acme/to_the_demos").run("acme/a"))
"""
    listed, results = map(card_examples.read, python(reader, code).splitlines())
    assert listed == ["acme/infodist"]
    ((to_itself, to_other),) = [task["infodist"] for task in results]
    assert to_itself < 0.01 < 0.5 < to_other


def test_a_stream_of_a_hub_gives_the_same_images(reader, local):
    code = """
from hf_infodist import load_images
print(load_images("acme/photos", k=64, streaming=True).fingerprint)
"""
    assert python(reader, code).strip() == local.images.fingerprint


def test_a_page_finds_classifiers_of_a_hub_as_somebody_types(reader, hub, tmp_path):
    code = """
import asyncio, json
from hf_infodist.page.request import Limits
from hf_infodist.page.search import Search
search = Search(lambda: ["acme/known-here"], Limits())
print(json.dumps([asyncio.run(search.find(text)) for text in ("ACME/", "acme/a", "of nobody", "a")]))
"""
    everything, one, nothing, short = json.loads(python(reader, code))
    assert everything[1] and set(everything[0]) >= {"acme/known-here", "acme/a", "acme/gated"}
    assert not {"acme/private", "acme/photos", "acme/infodist"} & set(everything[0])
    assert one == [["acme/a"], True] and nothing == [[], True] and "acme/a" not in short[0]
    dead = hub.environment(tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert json.loads(python(dead, code))[0] == [["acme/known-here"], False]


# What a hub refuses


ASK = """
import json, sys
from hf_infodist.errors import NotFoundError
from hf_infodist import load_classifier, load_images

def ask(load, name):
    try:
        return load(name).revision
    except NotFoundError as error:
        return str(error)

models, datasets = ([name for name in sys.argv[1:] if ("photos" in name) == held] for held in (False, True))
print(json.dumps([ask(load_classifier, name) for name in models] + [ask(load_images, name) for name in datasets]))
"""
ASKED = ["acme/private", "acme/gated", "acme/photo", "acme/a@v9"]
ASKED += ["acme/private-photos", "acme/gated-photos", "acme/photosx", "acme/photos@v9"]
WITHOUT_TOKEN = [
    ("no public {kind} 'acme/private", "private, or its name is wrong", "if it is private, run: hf auth login"),
    ("{kind} 'acme/gated", "accept terms", "/acme/gated{suffix}, then run: hf auth login"),
    ("no public {kind} 'acme/photo", "private, or its name is wrong", ""),
    ("has no revision 'v9'", "branch, tag or commit", "main branch"),
]
WITH_TOKEN = [
    ("no {kind} 'acme/private", "none that your token may read", ""),
    ("{kind} 'acme/gated", "not let you in yet", "accept its terms"),
    ("no {kind} 'acme/photo", "none that your token may read", ""),
    ("has no revision 'v9'", "branch, tag or commit", "main branch"),
]


@pytest.mark.parametrize(("token", "wanted"), [("", WITHOUT_TOKEN), (GUEST, WITH_TOKEN)], ids=["nobody", "guest"])
def test_private_gated_and_missing_are_told_apart(hub, tmp_path, token, wanted):
    answers = json.loads(python(hub.environment(tmp_path, token), ASK, *ASKED))
    for kind, suffix, told in (("model", "", answers[:4]), ("dataset", "-photos", answers[4:])):
        for lines, texts in zip(told, wanted, strict=True):
            assert len(lines.splitlines()) == 3
            for line, text in zip(lines.splitlines(), texts, strict=True):
                assert text.format(kind=kind, suffix=suffix).lower() in line.lower(), lines
    assert "did you mean acme/photos or" in answers[6]
    assert len(set(answers)) == len(answers)


def test_an_owner_reads_what_is_private_and_what_is_gated(hub, tmp_path):
    names = ["acme/private", "acme/gated", "acme/private-photos", "acme/gated-photos"]
    commits = json.loads(python(hub.environment(tmp_path, OWNER), ASK, *names))
    repositories = [hub[f"{'datasets/' if 'photos' in name else ''}{name}"] for name in names]
    assert commits == [repository.refs["main"] for repository in repositories]


def test_a_token_that_is_not_accepted_is_told_from_a_missing_repository(hub, tmp_path):
    for answer in json.loads(python(hub.environment(tmp_path, "hf_expired"), ASK, "acme/a", "acme/photos")):
        assert "does not accept your token" in answer and "hf auth login" in answer


def test_a_dead_hub_is_told_from_a_typo(hub, tmp_path):
    dead = hub.environment(tmp_path) | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    for answer in json.loads(python(dead, ASK, "acme/a", "acme/photos")):
        what, why, fix = answer.splitlines()
        assert "cannot be fetched now" in what and "check the connection" in fix
        assert "the Hub cannot be reached (Conn" in why and "not mean a typo" in why


def test_the_command_line_says_it_in_three_lines(hub, tmp_path):
    words = ["compare", "acme/private", "demo:cnn", "-i", "digits"]
    _, said = command(hub.environment(tmp_path), INFODIST, *words, rc=3)
    assert len(said[said.index("error: ") :].splitlines()) == 3 and "hf auth login" in said


def test_a_card_says_what_a_model_was_made_from_online_and_from_the_cache(hub, tmp_path):
    publish = (
        "import sys; from huggingface_hub import HfApi; api = HfApi(); api.create_repo('acme/child')\n"
        "api.upload_folder(repo_id='acme/child', folder_path=sys.argv[1])\n"
        "card = b'---\\nbase_model: acme/a\\nbase_model_relation: finetune\\n---\\n'\n"
        "api.upload_file(path_or_fileobj=card, path_in_repo='README.md', repo_id='acme/child')"
    )
    python(hub.environment(tmp_path / "owner", OWNER), publish, DEMO / "cnn")
    ask = (
        "from hf_infodist.models.declared import read_declared\n"
        "said = read_declared(['acme/a', 'acme/child', 'acme/b@v1', 'acme/gated'])\n"
        "print(*said, said['acme/child'], *said['acme/child'].among, sep=', ')"
    )
    reader = hub.environment(tmp_path / "reader")
    assert python(reader, ask) == python(reader | OFFLINE, ask) == "acme/child, fine-tune of acme/a, acme/a\n"


# What is written back


def test_evaluate_pushes_a_distance_to_the_card_of_a_model(hub, tmp_path):
    (call,) = [block for block in card_examples.code_blocks() if "push_to_hub" in block]
    python(hub.environment(tmp_path, OWNER), f"import evaluate\nresults = {{'infodist': [2.5]}}\n{call}")
    front = yaml.safe_load(hub["acme/a"].text("README.md").split("---\n")[1])
    ((result,),) = [entry["results"] for entry in front["model-index"]]
    assert result["dataset"]["type"] == "acme/photos"
    assert result["metrics"][0]["value"] == 2.5 and result["metrics"][0]["type"] == "acme/infodist"
    assert result["metrics"][0]["config"] == "standard"


SAVED = """
import evaluate, sys
labels = evaluate.load("acme/infodist", "labels")
print(labels.compute(predictions=["acme/a"], images="acme/photos", k=int(sys.argv[1]))["saved_nats_per_label"][0])
"""

UPLOAD = """
import sys
from huggingface_hub import upload_file
upload_file(path_or_fileobj=sys.argv[1], path_in_repo=sys.argv[2], repo_id="acme/a")
"""


def test_what_a_start_saves_goes_to_the_evaluation_results_of_its_repository(hub, tmp_path):
    environment = hub.environment(tmp_path / "owner", OWNER)
    words = ["transfer", "acme/a", "acme/b@v1", "--images", "acme/photos", "-k", "40"]
    command(environment, INFODIST, *words, "--eval-results", tmp_path / "results")
    assert sorted(file.name for file in (tmp_path / "results").iterdir()) == ["acme--a.yaml", "acme--b@v1.yaml"]
    place = ".eval_results/photos-nats-saved.yaml"
    python(environment, UPLOAD, tmp_path / "results" / "acme--a.yaml", place)
    (found,) = parse_eval_result_entries(yaml.safe_load(hub["acme/a"].text(place)))
    assert (found.dataset_id, found.dataset_revision) == ("acme/photos", hub["datasets/acme/photos"].refs["main"])
    assert found.value == pytest.approx(float(python(environment, SAVED, 40)), abs=1e-5) and found.value > 1.5


CARD = ["card", "acme/a", "--among", "acme/b@v1", "--images", "acme/photos", *SETTINGS]


def test_a_section_is_proposed_as_a_pull_request_and_by_request_only(hub, tmp_path, local):
    before, guest = dict(hub["acme/a"].refs), hub.environment(tmp_path, GUEST)
    shown, _ = command(guest, INFODIST, *CARD)
    assert hub["acme/a"].refs == before
    _, said = command(guest, INFODIST, *CARD, "--pull-request")
    assert f"opened {hub.url}/acme/a/discussions/1" in said
    assert hub["acme/a"].refs == before | {"refs/pr/1": hub["acme/a"].refs["refs/pr/1"]}
    proposed, data = (hub["acme/a"].text(path, "refs/pr/1") for path in ("README.md", "infodist.yaml"))
    assert proposed.startswith(hub["acme/a"].text("README.md").rstrip())
    assert proposed.partition("<!-- infodist")[2].strip() in shown and data in shown
    (entry,) = yaml.safe_load(data)["nearest"]
    assert entry["nats"] == pytest.approx(local.nats, rel=1e-6)
    assert entry["model"]["revision"] == hub["acme/b"].refs["v1"]
    assert f"/acme/b/tree/{hub['acme/b'].refs['v1']}" in proposed


def test_a_pull_request_without_a_token_is_refused_before_anything_is_compared(reader, hub):
    _, said = command(reader, INFODIST, *CARD, "--pull-request", rc=2)
    assert "nobody is signed in" in said and "gradient images" not in said


# Results


def test_results_go_to_a_dataset_repository_and_come_back_to_the_bit(hub, tmp_path):
    environments = {
        name: hub.environment(tmp_path / name, OWNER) | {"INFODIST_HOME": str(tmp_path / f"{name}-store")}
        for name in ("one", "two")
    }
    compare = ["compare", "demo:cnn", "demo:vit", "-i", "digits", *SETTINGS]
    command(environments["one"], INFODIST, *compare)
    said, _ = command(environments["one"], INFODIST, "results", "push", "acme/results", "--private")
    assert "2 added, 0 there already" in said and hub["datasets/acme/results"].private
    pushed = hub["datasets/acme/results"].refs["main"]
    said, _ = command(environments["one"], INFODIST, "results", "push", "acme/results")
    assert "0 added, 2 there already" in said and hub["datasets/acme/results"].refs["main"] == pushed
    said, _ = command(environments["two"], INFODIST, "results", "pull", "acme/results")
    assert "2 taken over" in said
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / f"{name}-store" / "codelengths").iterdir()}
        for name in environments
    )
    assert first.keys() == second.keys() and all(json.loads(first[key]) == json.loads(second[key]) for key in first)
    _, said = command(environments["two"], INFODIST, *compare)
    assert said.count("found in the store") == 2


CHANGE = """
from dataclasses import replace
from hf_infodist.results.store import Store
record = next(Store().records())
(Store().folder / f"{record.key}.json").unlink()
code = record.codelength
Store().put(replace(record, codelength=replace(code, image_nats=code.image_nats + 1)))
print(record.key)
"""


def test_a_conflict_is_reported_and_neither_side_is_written_over(hub, tmp_path):
    environment = hub.environment(tmp_path / "home", OWNER) | {"INFODIST_HOME": str(tmp_path / "store")}
    command(environment, INFODIST, "compare", "demo:cnn", "demo:vit", "-i", "digits", *SETTINGS)
    command(environment, INFODIST, "results", "push", "acme/conflict")
    there, key = dict(hub["datasets/acme/conflict"].refs), python(environment, CHANGE).strip()
    mine = (tmp_path / "store" / "codelengths" / f"{key}.json").read_bytes()
    for direction in ("push", "pull"):
        _, said = command(environment, INFODIST, "results", direction, "acme/conflict", rc=4)
        assert f"conflict: {key}" in said
    assert hub["datasets/acme/conflict"].refs == there
    assert (tmp_path / "store" / "codelengths" / f"{key}.json").read_bytes() == mine


def test_without_a_token_nothing_is_pushed(reader):
    _, said = command(reader, INFODIST, "results", "push", "acme/results", rc=2)
    assert "hf auth login" in said


def test_results_that_are_not_there_are_told(reader):
    _, said = command(reader, INFODIST, "results", "pull", "acme/nothing", rc=3)
    assert len(said[said.index("error: ") :].splitlines()) == 3
