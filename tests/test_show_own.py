"""Whose page it is: on one's own machine all names are taken and what is stored opens; in public none leads there."""

import asyncio
import gc
import json
import warnings
from types import SimpleNamespace

import gradio as gr
import pytest
from test_show_request import HOSTILE_NAMES

from hf_infodist.page import app, job_process, programs
from hf_infodist.page.compare_tab import CompareTab
from hf_infodist.page.events import Failed, Stopped
from hf_infodist.page.nearest_tab import NearestTab
from hf_infodist.page.preview import PREVIEW, TITLE, with_own_head
from hf_infodist.page.records import Records, shipped
from hf_infodist.page.request import DATASETS, Comparison, Limits, Refusal, request_in_link, requested, takes
from hf_infodist.page.search import Search
from hf_infodist.page.service import Service
from hf_infodist.protocol import PROTOCOLS

pytestmark = [  # of Gradio's
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OWN, PUBLIC = Limits(public=False), Limits()
VISITOR = SimpleNamespace(headers={}, client=None, session_hash="window")
SETTINGS = ("digits", 400, "standard", 0)


@pytest.fixture(autouse=True)
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

    async def do(self, what, comparison, **options):
        asked.append(comparison)
        yield Failed("it is refused", "this is a test", "go on", "a")

    monkeypatch.setattr(job_process.JobProcess, "do", do)
    return asked


def tabs(limits, home):
    service = Service(limits, home)
    with gr.Blocks(analytics_enabled=False):
        link, width = gr.Textbox(), gr.Textbox()
        with gr.Tabs(), gr.Tab("Compare"):
            compare = CompareTab(service, link, width)
        nearest = NearestTab(service)
    return compare, nearest


def last(events):
    async def listen():
        return [event async for event in events]

    shown = {}
    for event in asyncio.run(listen()):
        shown |= event
    return shown


async def checked(compare, link, *values):
    """What is shown when boxes are left."""
    yield await compare.consider(VISITOR, link, *values)
    yield await compare.check(VISITOR)


def ways_in(compare, nearest, a, b, images="digits"):
    """Every way in which a visitor can name something."""
    settings = (images, 400, "standard", 0)
    yield checked(compare, "", a, b, *settings)
    yield compare.compare(VISITOR, "1000", a, b, *settings)
    yield compare.show_known(VISITOR, "1000", a, b, *settings)
    yield nearest.rank(VISITOR, a, b, *settings)


@pytest.mark.parametrize(
    "name", ["/etc", "./models/mine", "~/mine", "../mine", "timm:resnet18", "torchvision:resnet18"]
)
def test_names_of_the_command_line_are_taken_on_one_s_own_machine_alone(name):
    assert requested(name, "demo:cnn", limits=OWN).a == name and takes(name, OWN)
    assert request_in_link({"a": name, "b": "demo:cnn", "images": "./photos"}, limits=OWN).images == "./photos"
    assert not takes(name, PUBLIC)
    with pytest.raises(Refusal):
        requested(name, "demo:cnn", limits=PUBLIC)


@pytest.mark.parametrize("images", ["./photos", "photos.parquet", "/data/photos", "org/photos", "org/photos@main"])
def test_every_data_set_is_taken_on_one_s_own_machine_alone(images):
    assert requested("demo:cnn", "demo:vit", images, limits=OWN).images == images
    with pytest.raises(Refusal) as refused:
        requested("demo:cnn", "demo:vit", images, limits=PUBLIC)
    assert refused.value.field == "images"


def test_every_protocol_is_taken_on_one_s_own_machine():
    assert {requested("demo:cnn", "demo:vit", protocol=name, limits=OWN).protocol for name in PROTOCOLS} == set(
        PROTOCOLS
    )


@pytest.mark.parametrize("name", ["", None, "a\nb", "x" * 2000, ["demo:cnn"]])
def test_what_is_no_name_is_refused_on_one_s_own_machine_too(name):
    with pytest.raises(Refusal):
        requested(name, "demo:cnn", limits=OWN)


def test_in_public_no_box_link_or_click_leads_anywhere_else(asked, tmp_path):
    compare, nearest = tabs(PUBLIC, tmp_path)
    for name in map(str, HOSTILE_NAMES.values()):
        for way in ways_in(compare, nearest, name, "demo:vit"):
            last(way)
    for images in ("/etc", "../data", "file:///etc/passwd", "https://example.com/x.parquet", str(tmp_path)):
        for way in ways_in(compare, nearest, "demo:cnn", "demo:vit", images):
            last(way)
    assert asked == []
    last(compare.compare(VISITOR, "1000", "demo:cnn", "random:demo:vit", "digits", 77, "standard", 0))
    assert asked == [Comparison("demo:cnn", "random:demo:vit", k=77)]


def test_on_one_s_own_machine_boxes_links_and_clicks_lead_to_folders(asked, tmp_path):
    compare, nearest = tabs(OWN, tmp_path)
    for way in ways_in(compare, nearest, "./one", "./two", "./photos"):
        last(way)
    assert asked == [Comparison("./one", "./two", "./photos")] * 4


def test_in_public_the_api_leads_nowhere_else(asked, tmp_path):
    service = Service(PUBLIC, tmp_path)
    for name in ("/etc", "./x", "timm:resnet18", "https://example.com/x"):
        with pytest.raises(gr.Error, match="not a model that this page takes"):
            asyncio.run(programs.compared(service, VISITOR, name, "demo:vit", *SETTINGS))
    assert asked == []


def test_the_space_is_public_and_the_command_is_not(monkeypatch, tmp_path):
    import importlib.util
    from pathlib import Path

    from typer.testing import CliRunner

    from hf_infodist.cli import app as command

    spec = importlib.util.spec_from_file_location("space", Path(__file__).parents[1] / "spaces_demo" / "app.py")
    space = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(space)
    assert space.LIMITS.public and space.LIMITS.disk_bytes
    served = []
    monkeypatch.setattr(app, "serve", lambda demo, **options: served.append((demo.service.limits.public, options)))
    monkeypatch.setenv("BROWSER", "true")
    for words in ([], ["--no-browser"]):
        done = CliRunner().invoke(command, ["show", "--store", str(tmp_path), "--port", "7999", *words])
        assert done.exit_code == 0, done.output
    assert [public for public, _ in served] == [False, False]
    assert [options["inbrowser"] for _, options in served] == [True, False]


def test_a_model_and_itself_are_the_same_at_once(asked, tmp_path):
    compare, _ = tabs(PUBLIC, tmp_path)
    shown = last(compare.compare(VISITOR, "1000", "org/name", "org/name", *SETTINGS))
    assert "0 bits" in shown[compare.result] and "the same weights" in shown[compare.result]
    assert shown[compare.curves].visible is False and shown[compare.place].visible is False
    assert asked == [] and list(Records(tmp_path / "pages")) == list(shipped())


def test_an_answer_stands_without_its_pictures(monkeypatch, tmp_path):
    from hf_infodist.page import compare_tab, figures

    def broken(*arguments):
        raise ValueError("it cannot be drawn")

    monkeypatch.setattr(figures, "curves", broken)
    monkeypatch.setattr(compare_tab, "chart", broken)
    compare, _ = tabs(PUBLIC, tmp_path)
    shown = last(compare.compare(VISITOR, "1000", "demo:cnn", "demo:vit", *SETTINGS))
    assert "bits" in shown[compare.result]
    assert shown[compare.curves].visible is False and shown[compare.place].visible is False


@pytest.mark.parametrize("change", [("a", "demo:nothing"), ("k", None), ("k", 10**6), ("images", "nothing")])
def test_no_answer_stays_under_an_error(asked, tmp_path, change):
    compare, _ = tabs(PUBLIC, tmp_path)
    pair = Comparison("demo:cnn", "demo:vit")
    values = list((pair.to_dict() | dict([change])).values())
    for way in (checked(compare, pair.query, *values), compare.compare(VISITOR, "1000", *values)):
        shown = last(way)
        assert shown[compare.result] == "" and shown[compare.link] == ""
        assert shown[compare.curves].visible is False and shown[compare.place].visible is False
        assert "wrong" in shown[compare.cost] + shown[compare.a_message]


def test_an_answer_stays_while_its_own_question_stands(tmp_path):
    compare, _ = tabs(PUBLIC, tmp_path)
    pair = Comparison("demo:cnn", "demo:vit")
    assert compare.result not in last(checked(compare, pair.query, *pair.to_dict().values()))


@pytest.mark.parametrize("gone_on", ["other boxes", "a wrong name", "compare", "another window"])
def test_what_a_comparison_costs_is_not_said_of_another_one(monkeypatch, tmp_path, gone_on):
    compare, _ = tabs(PUBLIC, tmp_path)
    released = asyncio.Event()

    async def slow(self, comparison):
        await released.wait()
        return Stopped("")

    async def visit():
        values = ("demo:cnn", "random:demo:vit", "digits", 401, "standard", 0)
        await compare.consider(VISITOR, "", *values)
        check = asyncio.create_task(compare.check(VISITOR))
        await asyncio.sleep(0)
        match gone_on:
            case "other boxes":
                await compare.consider(VISITOR, "", *values[:3], 402, *values[4:])
            case "a wrong name":
                await compare.consider(VISITOR, "", "demo:nothing", *values[1:])
            case "compare":
                await anext(compare.compare(VISITOR, "1000", *values))
            case "another window":
                await compare.consider(SimpleNamespace(**vars(VISITOR) | {"session_hash": "other"}), "", *values)
        released.set()
        return await check

    monkeypatch.setattr(Service, "check", slow)
    shown = asyncio.run(visit())
    assert ("in time" in shown.get(compare.cost, "")) == (gone_on == "another window")
    assert compare.result not in shown  # an answer that has come meanwhile stays


def test_what_is_stored_opens_whatever_its_names_are(asked, tmp_path):
    record = next(record for record in shipped() if not record.origin)
    result = json.loads(json.dumps(record.result))
    result["model_a"]["id"], result["images"]["id"] = "./mine", "/data/photos"
    pair = Comparison("./mine", record.comparison.b, "/data/photos", 400)
    Records(tmp_path / "pages").save(type(record)(pair, result, "words", [], ()))
    compare, nearest = tabs(OWN, tmp_path)
    for asked_for in (pair, pair.swapped()):
        shown = last(compare.show_known(VISITOR, "1000", *asked_for.to_dict().values()))
        assert "bits" in shown[compare.result] and shown[compare.link] == asked_for.query
        assert shown[compare.curves].visible
    ranked = last(nearest.rank(VISITOR, pair.a, pair.b, pair.images, pair.k, pair.protocol, pair.seed))
    assert "bits per image" in ranked[nearest.result] and asked == []


def test_the_nearest_is_ranked_with_errors_and_says_what_failed(asked, tmp_path):
    _, nearest = tabs(OWN, tmp_path)
    others = "random:demo:cnn\ndemo:vit\n\n./missing\ndemo:cnn"
    page = last(nearest.rank(VISITOR, "demo:cnn", others, *SETTINGS))[nearest.result]
    assert page.index("demo:vit</a>") < page.index("random:demo:cnn</a>") < page.index("./missing")
    assert page.count("±") == 4 and "farther than the nearest" in page
    assert "it is refused" in page and "still to come" not in page
    assert asked == [Comparison("demo:cnn", "./missing")]


@pytest.mark.parametrize(
    ("others", "words"), [("", "no others"), ("\n".join(f"a/b{i}" for i in range(30)), "too many")]
)
def test_nearest_says_what_it_lacks_and_what_is_too_much(asked, tmp_path, others, words):
    _, nearest = tabs(PUBLIC, tmp_path)
    shown = last(nearest.rank(VISITOR, "demo:cnn", others, *SETTINGS))
    assert words in shown[nearest.message] and shown[nearest.result] == "" and asked == []


def test_a_stored_group_fills_the_boxes(tmp_path):
    _, nearest = tabs(PUBLIC, tmp_path)
    title = nearest._groups().choices[0][0]
    model, others, *settings = nearest._take("demo:vit", title)
    assert model == "demo:vit" and "demo:cnn" in others.split("\n") and tuple(settings) == SETTINGS


def test_search_suggests_only_what_the_page_takes(tmp_path):
    (tmp_path / "mine").mkdir()
    known = ["./mine", "org/name", "timm:resnet18"]

    def find(text, limits):
        return asyncio.run(Search(lambda: known, limits).find(text))[0]

    assert "org/name" in find("", PUBLIC) and not {"./mine", "timm:resnet18"} & set(find("", PUBLIC))
    assert {"./mine", "timm:resnet18", "org/name"} <= set(find("", OWN))
    assert find(f"{tmp_path}/m", OWN) == [f"{tmp_path}/mine"] and find(f"{tmp_path}/m", PUBLIC) == []


def test_the_head_names_this_project_and_nobody_else():
    theirs = '<head>\n<meta property="og:title" content="Gradio" />\n<meta charset="utf-8" />'
    theirs += '<meta\nname="twitter:image"\ncontent="https://gradio.app/x.png" />'
    page = with_own_head(theirs, "https://example.com/space/")
    assert "gradio" not in page.lower() and page.count("og:title") == 1 and 'charset="utf-8"' in page
    assert f'property="og:title" content="{TITLE}"' in page
    assert 'content="https://example.com/space/preview.png"' in page
    assert PREVIEW.read_bytes().startswith(b"\x89PNG") and PREVIEW.stat().st_size < 100_000


def test_an_empty_number_of_images_is_said_in_words():
    with pytest.raises(Refusal, match=r"the number of images \(k\) is empty"):
        requested("demo:cnn", "demo:vit", k=None, limits=PUBLIC)


def test_more_images_than_there_are_is_said_before_the_click():
    from hf_infodist.page.compute import check

    with pytest.raises(Refusal, match="digits has 1797 images, fewer than k = 1900") as refused:
        check(Comparison("demo:cnn", "demo:vit", k=1900), PUBLIC)
    assert refused.value.field == "k" and "-k" not in refused.value.fix
    assert DATASETS[0] == "digits"
