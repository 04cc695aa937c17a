"""The tab of atlases: what it takes, what it answers at once, and that names of a stranger's atlas stay text."""

import asyncio
import functools
import gc
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from test_show_request import HOSTILE_NAMES, Text

from hf_infodist.analysis.geometry import nearest
from hf_infodist.models.declared import Declared
from hf_infodist.page import job_process, programs
from hf_infodist.page.atlas_map import atlas_map, found, sought
from hf_infodist.page.atlas_matrix import keep_matrix, kept_matrix, key_of
from hf_infodist.page.atlas_tab import AtlasTab
from hf_infodist.page.events import Failed
from hf_infodist.page.placed import placed
from hf_infodist.page.placing import Mapping, Placing
from hf_infodist.page.request import Limits, Refusal
from hf_infodist.page.service import Service
from hf_infodist.page.starts import question_of
from hf_infodist.page.telling import told
from hf_infodist.results.atlas.shipped import SHIPPED, open_atlas
from hf_infodist.results.records import ModelRecord

pytestmark = [  # of Gradio's
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OWN, PUBLIC, DIGITS = Limits(public=False), Limits(), "demo:digits"
VISITOR = SimpleNamespace(headers={}, client=None, session_hash="window")
EVIL = "<img src=x onerror=alert(1)>${evil}"


@pytest.fixture(autouse=True, scope="module")
def loops_of_gradio():
    """Collect the event loops that Gradio leaves open, so that no later test is told of them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.set_event_loop(None)
        gc.collect()


@pytest.fixture
def asked(monkeypatch):
    """What the processes that compute were asked; they refuse everything."""
    asked = []

    async def do(self, what, question, **options):
        asked.append(question)
        yield Failed("it is refused", "this is a test", "go on")

    monkeypatch.setattr(job_process.JobProcess, "do", do)
    return asked


@functools.cache
def tab_of(limits):
    """A tab of a page, made once: it keeps nothing."""
    home = Path(os.devnull) / "nowhere"
    with gr.Blocks(analytics_enabled=False):
        width = gr.Textbox()
        with gr.Tabs():
            return AtlasTab(Service(limits, home), width)


def last(events):
    async def listen():
        return [event async for event in events]

    shown = {}
    for event in asyncio.run(listen()):
        shown |= event
    return shown


@pytest.mark.parametrize("limits", [PUBLIC, OWN], ids=["public", "own"])
def test_a_model_of_the_atlas_is_answered_at_once(asked, tmp_path, limits):
    tab = tab_of(limits)
    matrix = kept_matrix(tmp_path, open_atlas(DIGITS))
    names = [model.id for model in matrix.models]
    for i, name in list(enumerate(names))[::3]:
        shown = last(tab.place(VISITOR, DIGITS, name))
        text = Text(shown[tab.result]).text
        order = [names[j] for j, _ in nearest(matrix.distances, i, 10)]
        assert shown[tab.message] == "" and f"Nearest to {name} in {DIGITS}" in text
        rows = shown[tab.result].split("<li>")[1:]
        assert all(row.startswith(f'<span class="who">{one}</span>') for row, one in zip(rows, order, strict=True))
    assert asked == []


def test_facts_say_what_the_atlas_says(asked, tmp_path):
    tab = tab_of(PUBLIC)
    text = Text(last(tab.place(VISITOR, DIGITS, "digits/resnet10-0-tuned"))[tab.result]).text
    for fact in ("digits/resnet10-0 (fine-tune)", "resnet18", "apache-2.0", "100%", "175 thousand", "farther than"):
        assert fact in text


def test_ties_and_differences_are_those_of_the_command(tmp_path):
    fields = Service(PUBLIC, tmp_path).atlases.find(Placing("digits/resnet10-0", DIGITS, 96))
    html = placed(fields, DIGITS, {})
    rows = html.split("<li>")[1:]
    for row, one in zip(rows, fields["neighbours"], strict=True):
        assert ('"amount">= ' in row) == (one["tied_with_nearest"] and one is not fields["neighbours"][0])
        assert ("farther than the nearest" in row) == (one is not fields["neighbours"][0])
    assert len({'"amount">= ' in row for row in rows}) == 2  # some are tied, and some are not


def test_in_public_only_models_and_atlases_of_the_page_are_taken(asked):
    tab = tab_of(PUBLIC)
    for name in HOSTILE_NAMES.values():
        for atlas, model in ((DIGITS, name), (name, "demo:cnn")):
            shown = last(tab.place(VISITOR, atlas, model))
            assert shown[tab.result] == ""
            assert [tag for tag, _ in Text(shown[tab.message]).tags] == ["p", "strong", "br"]
            assert not set("${}`") & set(shown[tab.message])
        assert tab.look(name, "", "1000")[tab.map].visible is False
        last(tab.compute_map(VISITOR, name, "", "1000"))
    assert asked == []


@pytest.mark.parametrize("model", ["org/name", "timm:resnet18", "random:demo:vit", "./models", "digits/resnet"])
def test_other_models_are_run_on_one_s_own_machine_alone(asked, tmp_path, model):
    shown = last((public := tab_of(PUBLIC)).place(VISITOR, DIGITS, model))
    assert asked == [] and "is no model of demo:digits" in shown[public.message]
    own = tab_of(OWN)
    shown = last(own.place(VISITOR, DIGITS, model))
    assert asked == [Placing(model, DIGITS, 96)] and question_of("nearest", asked[0].to_dict()) == asked[0]
    assert "it is refused" in shown[own.message] and shown[own.result] == ""


@pytest.mark.parametrize("atlas", ["", None, "a\nb", "x" * 2000, ["demo:digits"], "https://example.com/x", "./none"])
def test_what_is_no_atlas_is_refused_on_one_s_own_machine_too(asked, tmp_path, atlas):
    tab = tab_of(OWN)
    shown = last(tab.place(VISITOR, atlas, "demo:cnn"))
    assert "wrong" in shown[tab.message] and shown[tab.result] == "" and asked == []
    shown = tab.choose(atlas, "", "1000")
    assert "wrong" in shown[tab.message] and shown[tab.map].visible is False


@pytest.mark.parametrize("n", [0, -1, 51, 10**30, float("nan"), "many", None, [5]])
def test_numbers_of_neighbours_that_are_not_offered_are_refused(tmp_path, n):
    with pytest.raises(Refusal) as refused:
        Service(PUBLIC, tmp_path).atlases.placing("demo:cnn", DIGITS, n)
    assert refused.value.field == "n" and all(map(str.isprintable, told(refused.value, PUBLIC)))


def test_a_misspelt_model_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(Refusal, match="did you mean digits/vit-"):
        Service(PUBLIC, tmp_path).atlases.placing("digits/vit0", DIGITS)


def test_models_are_found_by_name_architecture_and_base(tmp_path):
    atlas = open_atlas(DIGITS)
    assert sought(atlas, "VIT") == ["demo:vit", "digits/vit-0", "digits/vit-1"]
    assert "digits/resnet18-0-rounded" in sought(atlas, "digits/resnet18-0")
    assert sought(atlas, "ViTForImage") == ["demo:vit"]  # an architecture
    assert set(sought(atlas, "resnet10-0")) == {"digits/resnet10-0", "digits/resnet10-0-tuned"}
    assert "No name" in found(atlas, EVIL) and "<img" not in found(atlas, EVIL) and found(atlas, "  ") == ""


def test_the_map_marks_what_is_sought_and_moves_nothing(tmp_path):
    matrix = kept_matrix(tmp_path, open_atlas(DIGITS))
    plain, marked = atlas_map(matrix, (), 1000), atlas_map(matrix, ["demo:vit"], 1000)
    assert (plain.data[0].x == marked.data[0].x).all() and set(plain.data[0].marker.symbol) == {"circle"}
    names = [one[0] for one in marked.data[0].customdata]
    assert [name for name, symbol in zip(names, marked.data[0].marker.symbol, strict=True) if symbol == "diamond"] == [
        "demo:vit"
    ]
    assert len(names) == 16 and "marked: demo:vit" in marked.layout.meta["alt"]


def test_suggestions_are_of_the_atlas(tmp_path):
    atlases = Service(PUBLIC, tmp_path).atlases
    assert atlases.suggest("VIT", DIGITS) == ["demo:vit", "digits/vit-0", "digits/vit-1"]
    assert atlases.suggest("vit", "/etc") == [] and atlases.suggest("<script>", DIGITS) == []


def renamed(matrix, name):
    first = ModelRecord(**vars(matrix.models[0]) | {"id": name})
    return replace(matrix, models=(first, *matrix.models[1:]))


def test_what_the_card_declares_and_who_is_a_copy_are_said(tmp_path):
    atlases = Service(PUBLIC, tmp_path).atlases
    fields = atlases.find(Placing("digits/resnet18-0-rounded", DIGITS, 96, 3))
    assert fields["declared"]["among"] == ("digits/resnet18-0",)
    fields["neighbours"][0]["copy"] = True
    html = placed(json.loads(json.dumps(fields)), DIGITS, {})
    assert "declared: quantized version of digits/resnet18-0; by distance: digits/resnet18-0 is number 1." in html
    assert html.count("the same function") == 1
    assert atlases.find(Placing("demo:vit", DIGITS, 96, 3))["declared"] is None


def test_names_of_a_stranger_stay_text(tmp_path):
    matrix = renamed(kept_matrix(tmp_path, open_atlas(DIGITS)), EVIL)
    from hf_infodist.analysis.neighbours import Neighbours

    file = open_atlas(DIGITS).files[0].entry
    entry = replace(file, model=matrix.models[0], licence=EVIL, base_models=(EVIL,), architecture=EVIL, relation=EVIL)
    declared = Declared((EVIL,), EVIL, (EVIL,))
    html = placed(Neighbours.of(matrix, EVIL, declared=declared).to_dict(), EVIL, {EVIL: entry})
    assert not {"img", "script"} & {tag for tag, _ in Text(html).tags} and not set("${}`") & set(html)
    picture = json.dumps(atlas_map(matrix, (), 1000).to_dict()["layout"]["annotations"], default=str)
    assert "<img" not in picture and "&lt;img" in picture
    hovered = atlas_map(matrix, (), 1000).data[0].customdata
    assert not any("<" in text for row in hovered for text in row[2:4])


def test_a_matrix_is_kept_to_the_bit_and_read_for_its_atlas_alone(tmp_path):
    atlas = open_atlas(DIGITS)
    matrix = kept_matrix(tmp_path, atlas)
    other = replace(atlas, head=replace(atlas.head, images=replace(atlas.head.images, fingerprint="other")))
    assert key_of(other) != key_of(atlas) and kept_matrix(tmp_path, other) is None
    path = keep_matrix(tmp_path, other, matrix)
    again = kept_matrix(tmp_path, other)
    assert (again.nats == matrix.nats).all() and again.models == matrix.models
    assert all((again.image_nats[pair] == prices).all() for pair, prices in matrix.image_nats.items())
    np.testing.assert_allclose(again.image_nats[0, 1].sum(), again.nats[0, 1], rtol=1e-9)
    path.write_bytes(path.read_bytes()[:1000])
    assert kept_matrix(tmp_path, other) is None


def test_a_map_that_is_not_known_is_offered_and_asked_for(asked, tmp_path, monkeypatch):
    tab = tab_of(OWN)
    monkeypatch.setattr(type(tab.service.atlases), "matrix", lambda self, atlas: None)
    shown = tab.look(DIGITS, "", "1000")
    assert shown[tab.draw].visible and shown[tab.map].visible is False and "each of the 16 models" in shown[tab.found]
    shown = last(tab.compute_map(VISITOR, DIGITS, "", "1000"))
    assert asked == [Mapping(DIGITS, 96)] and "it is refused" in shown[tab.message]


def test_the_api_leads_nowhere_else(asked, tmp_path):
    service = Service(PUBLIC, tmp_path)
    for values in (("/etc", DIGITS), ("demo:cnn", "/etc"), ("demo:cnn", DIGITS, 0), ("org/name", DIGITS)):
        with pytest.raises(gr.Error) as refused:
            asyncio.run(programs.placed(service, VISITOR, *values))
        assert len(refused.value.message.splitlines()) == 3
    assert asked == []
    fields = asyncio.run(programs.placed(service, VISITOR, "demo:cnn", DIGITS, 3))
    assert fields["schema"] == "infodist.nearest/1" and len(fields["neighbours"]) == 3


def test_every_shipped_atlas_has_its_map(tmp_path):
    for word in SHIPPED:
        matrix = kept_matrix(tmp_path, open_atlas(word))
        assert [model.id for model in matrix.models] == open_atlas(word).names and matrix.complete
