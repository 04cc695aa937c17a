"""The tab that ranks models to start from: what it takes, what it asks for, and what it shows."""

import json

import numpy as np
import pytest
from PIL import Image
from test_show_own import OWN, PUBLIC, VISITOR, last, loops_of_gradio  # noqa: F401  a fixture

from hf_infodist import rank_checkpoints
from hf_infodist.errors import UnfitError
from hf_infodist.page import compute, job_process, programs
from hf_infodist.page.candidates import starts, to_ranking, to_record
from hf_infodist.page.events import Done, Failed, Stage, Stopped, from_line, to_line
from hf_infodist.page.request import Refusal
from hf_infodist.page.service import Service
from hf_infodist.page.start_tab import StartTab
from hf_infodist.page.starts import Start, requested_starts

pytestmark = [  # of Gradio's
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODELS = ["demo:cnn", "demo:vit", "random:demo:cnn"]
SETTINGS = ("digits", 64, "standard", 0, "")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the command line and Python say."""
    from hf_infodist.pair import Execution

    home = tmp_path_factory.mktemp("home")
    return rank_checkpoints(MODELS, "digits", k=64, execution=Execution(home=home))


@pytest.fixture(scope="module")
def records(found):
    """What the process that computes answers, by model."""
    alone = {one.id: rank_alone(found, one) for one in found.candidates}
    return {name: json.loads(json.dumps(to_record(ranking))) for name, ranking in alone.items()}


def rank_alone(found, one):
    from dataclasses import replace

    return replace(found, candidates=(one,))


@pytest.fixture
def asked(monkeypatch, records):
    """What the process that computes was asked; it knows some models and refuses the others."""
    asked = []

    async def do(self, what, question, **options):
        asked.append(question)
        yield Stage("running it")
        if question.images == "nothing":
            yield Failed("nothing has no labels", "no column says", "choose another", "images")
        elif question.model == "demo:vit" and question.seed == 7:
            yield Stopped("you stopped it")
        elif question.model in records:
            yield Done(records[question.model])
        else:
            yield Failed(f"there is no {question.model}", "it leads nowhere", "go on", "models")

    monkeypatch.setattr(job_process.JobProcess, "do", do)
    return asked


@pytest.fixture
def tab(tmp_path):
    import gradio as gr

    def build(limits):
        with gr.Blocks(analytics_enabled=False), gr.Tabs():
            return StartTab(Service(limits, tmp_path))

    return build


# What is shown


def test_the_ranking_is_that_of_the_command_line(found, records):
    def comparable(ranking):
        return {part: value for part, value in ranking.to_dict().items() if part != "versions"}

    lines = [to_line(Done(record)) for record in records.values()]  # as they come from the process
    assert comparable(to_ranking([from_line(line).record for line in reversed(lines)])) == comparable(found)


def test_other_images_are_not_ranked_together(records):
    one, other, _ = records.values()
    with pytest.raises(UnfitError, match="changed"):
        to_ranking([one, other | {"images": other["images"] | {"fingerprint": "another"}}])


def test_models_are_ranked_with_errors_and_what_to_do(asked, tab, found):
    start = tab(PUBLIC)
    shown = last(start.rank(VISITOR, "\n".join(reversed(MODELS)), *SETTINGS))
    page = shown[start.result]
    assert found.verdict in page and "still to come" not in page and "So far" not in page
    places = [page.index(f'<span class="who">{one.id} ') for one in found.candidates]
    assert places == sorted(places) and page.count("±") >= 5
    assert page.count("tied with the best</span>") == len(found.tied)
    assert page.count("accuracy at the end") and "log loss at the end, bits" in page
    assert "infodist transfer random:demo:cnn demo:vit demo:cnn --images digits -k 64" in page
    curves = json.loads(shown[start.curves].value["plot"])
    assert [line["name"] for line in curves["data"]] == [*(one.id for one in found.candidates), "without any image"]
    assert "learnt from demo:cnn" in curves["layout"]["meta"]["alt"]
    assert asked == requested_starts(MODELS[::-1], *SETTINGS, limits=PUBLIC)


def test_ties_are_marked(records):
    twin = json.loads(json.dumps(records["demo:cnn"]))
    twin["model"]["id"] = "org/twin"
    tied = to_ranking([records["demo:cnn"], twin, records["random:demo:cnn"]])
    page = starts(tied, {}, requested_starts(MODELS, limits=PUBLIC), 0)
    assert page.count('<span class="tag tied">tied with the best</span>') == 1 == page.count('class="tag">best')
    assert "org/twin is tied with it" in page


def test_what_failed_is_told_in_its_row_and_the_others_are_ranked(asked, tab):
    start = tab(PUBLIC)
    page = last(start.rank(VISITOR, "org/missing\ndemo:cnn\ndemo:vit", *SETTINGS))[start.result]
    assert page.index("demo:vit") < page.index("there is no org/missing") and len(asked) == 3


def test_what_is_wrong_with_the_images_is_told_once(asked, tab):
    start = tab(OWN)
    shown = last(start.rank(VISITOR, "\n".join(MODELS), "nothing", *SETTINGS[1:]))
    assert "has no labels" in shown[start.message] and shown[start.result] == "" and len(asked) == 1
    assert shown[start.go].visible and not shown[start.curves].visible


def test_stopping_keeps_what_there_is(asked, tab):
    start = tab(PUBLIC)
    shown = last(start.rank(VISITOR, "\n".join(MODELS), "digits", 64, "standard", 7, ""))
    assert "Stopped: you stopped it" in shown[start.status]
    assert "So far: Start from demo:cnn" in shown[start.result] and "2 still to come" in shown[start.result]
    assert shown[start.curves].visible and len(asked) == 2


@pytest.mark.parametrize("models", ["", "demo:cnn", "demo:cnn\ndemo:cnn", "demo:cnn\n../x", "demo:cnn\ntimm:resnet18"])
def test_in_public_the_tab_leads_nowhere_else(asked, tab, models):
    start = tab(PUBLIC)
    shown = last(start.rank(VISITOR, models, *SETTINGS))
    assert "wrong" in shown[start.message] and shown[start.result] == "" and asked == []


def test_the_api_ranks_too_and_refuses_as_the_tab(asked, tmp_path, found):
    import asyncio

    import gradio as gr

    service = Service(PUBLIC, tmp_path)
    ranked = asyncio.run(programs.ranked(service, VISITOR, MODELS, *SETTINGS))
    assert ranked["schema"] == "infodist.transfer/1" and ranked["verdict"] == found.verdict
    for models in (["demo:cnn", "/etc"], ["demo:cnn"] * 2, {"a": 1}, "demo:cnn"):
        with pytest.raises(gr.Error):
            asyncio.run(programs.ranked(service, VISITOR, models, *SETTINGS))
    assert len(asked) == 3


def test_hostile_words_of_datasets_and_models_stay_text(records):
    script = "<script>alert(1)</script>${x}{{y}}"
    record = json.loads(json.dumps(records["demo:cnn"]))
    record["model"]["id"] = record["images"]["id"] = script
    failed = {script: Failed(script, script, script)}
    page = starts(to_ranking([record]), failed, [Start(script, script, label=script), Start("demo:cnn")], 0)
    assert "<script" not in page and "${" not in page and "{{" not in page and page.count("alert(1)") > 5


# What the process that computes says


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "sorted" / str(i % 3)
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        picture.save(folder / f"{i}.png")
        for name in ("plain", "uneven/rare" if i == 0 else "uneven/usual"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / name / f"{i}.png")
    return tmp_path


def refusal_of(start):
    with pytest.raises(Refusal) as refused:
        compute.answer(start, OWN, lambda event: None)
    assert "--" not in str(refused.value)  # what is typed elsewhere
    return refused.value.field, str(refused.value)


def test_labels_that_cannot_be_learnt_are_refused_with_their_box(photos):
    plain, folders = str(photos / "plain"), str(photos / "sorted")
    field, words = refusal_of(Start("demo:cnn", plain, 8))
    assert field == "images" and "no labels" in words
    field, words = refusal_of(Start("demo:cnn", folders, 2))
    assert field == "k" and "fewer than its 3 classes" in words and "use 3 or more" in words
    field, words = refusal_of(Start("demo:cnn", str(photos / "uneven"), 2, seed=1))
    assert field == "images" and "of one class" in words and words.endswith("two classes or more")
    field, words = refusal_of(Start("demo:cnn", folders, 500))
    assert field == "k"
    field, words = refusal_of(Start("demo:cnn", folders, 8, label="kind"))
    assert field == "label" and "no column 'kind'" in words
    field, words = refusal_of(Start("demo:nothing", folders, 8))
    assert field == "models"


def test_the_cost_of_a_start_is_known_before_it():
    checked = compute.check(Start("demo:cnn", k=64), PUBLIC)
    assert len(checked.parameters) == 1 and checked.flops > 0 and checked.fits


def test_a_model_without_a_head_is_taken(photos, monkeypatch):
    monkeypatch.setenv("INFODIST_HOME", str(photos / "home"))
    import timm

    model = timm.create_model("test_resnet.r160_in1k", num_classes=0)
    timm.models.save_for_hf(model, photos / "tower")
    told = []
    done = compute.answer(Start(str(photos / "tower"), str(photos / "sorted"), 12), OWN, told.append)
    found = to_ranking([done.record])
    assert found.images.k == 12 and found.counts == (4, 4, 4) and told
