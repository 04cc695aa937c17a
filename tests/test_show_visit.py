"""What a visitor of one's own page sees, in a real browser: on a desktop and on a phone, in light and in dark mode."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from show_browser import PHONE, Site, box, fill, free_port, shoot, skip_or_fail
from show_server import ROOT, serving

from hf_infodist.models.names import DEMO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

DESKTOP = {"width": 1280, "height": 800}
SCREENS = [(size, scheme) for size in ("desktop", "phone") for scheme in ("light", "dark")]
PAIR = "/?a=demo:cnn&b=demo:vit"


def screen(size, scheme):
    if size == "desktop":
        return {"viewport": DESKTOP, "color_scheme": scheme}
    return {"viewport": PHONE, "color_scheme": scheme, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with two models and images, which were compared by the command line, one of them with itself too."""
    here = tmp_path_factory.mktemp("here")
    for name, demo in (("one", "cnn"), ("two", "vit")):
        shutil.copytree(DEMO / demo, here / name)
    (here / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        picture.save(here / "photos" / f"{i}.png")
        for name, classes in (("sorted", 2), ("many", 8)):
            (here / name / str(i % classes)).mkdir(parents=True, exist_ok=True)
            picture.save(here / name / str(i % classes) / f"{i}.png")
    for words in (["matrix", "./one", "./two", "random:demo:cnn"], ["compare", "./one", "./one"]):
        command = [sys.executable, "-m", "hf_infodist.cli", *words, "-i", "./photos", "-k", "32", "--json"]
        env = os.environ | {"PYTHONPATH": str(ROOT), "INFODIST_HOME": str(here / "store")}
        subprocess.run(command, cwd=here, env=env, check=True, capture_output=True)
    return here


@pytest.fixture(scope="module")
def site(here):
    with serving(here / "store", port := free_port(), cwd=here, public=False) as address:
        yield Site(address, here / "store", port)


def in_view(page, selector):
    """Whether the upper end of an element is on the screen."""
    top = page.locator(selector).first.bounding_box()["y"]
    return 0 <= top < page.viewport_size["height"] - 40


def open_matrix(page, title="photos"):
    page.get_by_role("tab", name="Matrix", exact=True).click()
    page.locator("#matrix .js-plotly-plot").wait_for()
    page.locator("#group input").click()
    page.get_by_role("option").filter(has_text=title).first.click()
    page.wait_for_function(
        "title => document.querySelector('#matrix .js-plotly-plot')?.layout?.meta?.alt.includes(title)", arg=title
    )


def click_cell(page):
    """Click the first row's last column."""
    page.wait_for_function("document.querySelector('#matrix .js-plotly-plot').dataset.dressed")
    drag = page.locator("#matrix .nsewdrag").first
    size = drag.bounding_box()
    drag.click(position={"x": size["width"] * 0.9, "y": size["height"] * 0.1})


# A model and itself, and what is stored


def test_a_model_and_itself_are_the_same_and_nothing_breaks_for_others(visit):
    page = visit(PAIR, **screen("desktop", "light"))
    page.locator("#place .js-plotly-plot").wait_for()
    fill(page, "b", "demo:cnn")
    page.locator("#go").click()
    page.locator("#result", has_text="the same weights").wait_for()  # what was shown before may end in "0 bits", too
    assert re.match(r"0 bits", page.locator("#result .big").inner_text())
    assert page.locator("#curves").is_hidden() and page.locator("#place").is_hidden()
    shoot(page, "itself")
    other = visit(PAIR)
    other.locator("#place .js-plotly-plot").wait_for()
    open_matrix(other)
    diagonal = "document.querySelector('#matrix .js-plotly-plot').calcdata[0][0].z.map((row, i) => row[i])"
    assert other.evaluate(diagonal) == [0, 0, 0]


def test_a_cell_of_local_folders_opens_and_so_does_its_link(visit):
    page = visit(**screen("desktop", "light"))
    open_matrix(page)
    shoot(page, "folders")
    click_cell(page)
    page.locator("#result .big").wait_for()
    assert "results of this machine" in page.locator("#result").inner_text()
    assert box(page, "images").input_value() == "./photos" and box(page, "k").input_value() == "32"
    page.locator("#curves .js-plotly-plot").wait_for()
    page.wait_for_function("location.search.includes('photos')")
    shoot(page, "stored")
    again = visit("/" + re.search(r"\?.*", page.url)[0])
    assert again.locator("#result .big").inner_text() == page.locator("#result .big").inner_text()


def test_folders_are_compared_and_suggested_on_one_s_own_machine(visit):
    page = visit(**screen("desktop", "dark"))
    box(page, "a").click()
    page.wait_for_function("document.activeElement.selectionEnd > 3")  # all of it is selected
    page.keyboard.type("./o")
    page.locator("#names [role=option]", has_text="./one").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert box(page, "a").input_value() == "./one"
    page.keyboard.press("Tab")
    page.keyboard.type("./tw")
    page.locator("#names [role=option]", has_text="./two").wait_for()
    page.keyboard.press("Tab")  # past it: it closes, and stays closed
    page.wait_for_timeout(600)
    assert page.locator("#names").is_hidden()
    fill(page, "b", "./two")
    fill(page, "images", "./photos")
    fill(page, "k", 24)
    page.locator("#go").click()
    page.locator("#result h2").wait_for()
    assert "24 images" in page.locator("#result").inner_text()


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_the_nearest_of_several_is_shown_as_ranked_bars(visit, size, scheme):
    page = visit(**screen(size, scheme))
    page.get_by_role("tab", name="Nearest").click()
    fill(page, "nearest-model", "demo:cnn")
    others = "random:demo:cnn\ndemo:vit" if scheme == "dark" else "./one\ndemo:vit\n./missing"
    page.locator("#nearest-others textarea").fill(others)
    fill(page, "nearest-k", 400 if scheme == "dark" else 64)
    page.locator("#nearest-go").click()
    page.wait_for_function("!document.querySelector('#nearest-result')?.innerText.includes('still to come')")
    page.locator("#nearest-result .bars li").nth(1).wait_for()
    page.locator("#nearest-go").wait_for()
    rows = page.locator("#nearest-result .bars li").all_inner_texts()
    if scheme == "dark":
        assert [row.split()[0] for row in rows] == ["demo:vit", "random:demo:cnn"]
        assert all("±" in row for row in rows)
    else:
        assert [row.split()[0] for row in rows] == ["./one", "demo:vit", "./missing"]  # a copy of it is the nearest
        assert "there is no folder 'missing'" in rows[2]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, f"nearest-{size}-{scheme}")


def begin(page, models, images, **settings):
    """Ask which model to start from."""
    box(page, "start-models").fill(models)
    for name, value in ({"images": images, "k": 40} | settings).items():
        fill(page, f"start-{name}", value)
    page.locator("#start-go").click()


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_a_start_for_labels_of_one_s_own_is_found(visit, size, scheme):
    page = visit(**screen(size, scheme))
    page.get_by_role("tab", name="Start from").click()
    begin(page, "./one\n./two\n./missing", "./sorted")
    page.locator("#start-curves .js-plotly-plot").wait_for()
    rows = page.locator("#start-result .bars li").all_inner_texts()
    assert {row.split()[0] for row in rows[:2]} == {"./one", "./two"} and "there is no folder 'missing'" in rows[2]
    assert "40 labels of ./sorted, 2 of 2 classes" in page.locator("#start-result").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, f"start-{size}-{scheme}")


@pytest.mark.parametrize(
    ("images", "settings", "words"),
    [
        ("./photos", {}, "./photos has no labels"),
        ("./sorted", {"k": 500}, "fewer than k = 500"),
        ("./many", {"k": 4}, "fewer than its 8 classes"),
        ("./sorted", {"label": "kind"}, "there is no column 'kind'"),
        ("./nothing", {}, "does not exist"),
    ],
)
def test_labels_that_cannot_be_learnt_are_told_once(visit, images, settings, words):
    page = visit(**screen("phone", "light"))
    page.get_by_role("tab", name="Start from").click()
    begin(page, "./one\n./two", images, **settings)
    page.locator("#start-models-message .wrong", has_text=words).wait_for()
    assert page.locator("#start-models-message .wrong").count() == 1
    assert page.locator("#start-result section").count() == 0 and page.locator("#start-go").is_visible()


# The first ten seconds


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_the_page_opens_with_an_answer_about_models_people_know(visit, size, scheme):
    page = visit(**screen(size, scheme))
    page.locator("#result .sentence", has_text="EfficientNet-Lite0").wait_for()
    page.locator("#result figure[role=img]").wait_for()  # the only one
    assert in_view(page, "#result .sentence")
    assert size == "phone" or in_view(page, "#result figure")
    assert box(page, "seed").count() == 0 or box(page, "seed").is_hidden()
    assert box(page, "a").input_value() == "EfficientNet-Lite0"
    shoot(page, f"opens-{size}-{scheme}")
    page.get_by_role("button", name="More: protocol and seed").click()
    page.locator("#seed input").wait_for()


def test_nothing_that_is_called_calls_itself(site):
    with urllib.request.urlopen(f"{site.address}/config") as config:
        called = [one for one in json.load(config)["dependencies"] if one["backend_fn"]]
    assert len(called) > 10
    for one in called:
        assert not {id for id, event in one["targets"] if event == "change"} & set(one["outputs"]), one["api_name"]


def test_comparing_on_a_phone_leads_to_the_answer(visit):
    page = visit("/?a=demo:cnn&b=random:demo:vit&k=90", **screen("phone", "light"))
    page.locator("#go").click()
    page.locator("#result h2").wait_for()
    page.wait_for_function("document.activeElement.id === 'result'")
    assert page.evaluate("scrollY") > 100 and in_view(page, "#result")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = """[...document.querySelectorAll('#result table')]
        .filter(t => t.offsetParent && t.scrollWidth > t.parentElement.clientWidth)"""
    page.get_by_text("What other measures say").click()
    assert page.evaluate(f"{wide}.length") == 0
    shoot(page, "answer-phone")
    page.evaluate("scrollTo(0, 0)")
    page.locator("#go").click()  # the same again: the same answer, again led to
    page.wait_for_function("document.activeElement.id === 'result' && scrollY > 100")


@pytest.mark.parametrize("moved_on", [False, True])
def test_an_answer_of_a_slow_server_is_led_to_unless_the_visitor_has_moved_on(visit, moved_on):
    page = visit(f"{PAIR}&k=90", **screen("phone", "light"))
    page.locator("#go").click()
    page.locator("#result h2").wait_for()
    page.wait_for_function("document.activeElement.id === 'result'")
    page.evaluate("document.querySelector('#result section').dataset.old = 'yes'")
    asked = []
    page.route("**/queue/join*", lambda route: route.continue_() if asked else asked.append(route))
    page.evaluate("scrollTo(0, 0)")
    page.locator("#go").click()
    page.wait_for_function("document.activeElement.id === 'result' && scrollY > 100")  # to what was there before
    if moved_on:
        page.mouse.wheel(0, -5000)
        page.wait_for_function("scrollY < 10")
    asked[0].continue_()
    page.locator("#result section:not([data-old])").wait_for()
    page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    assert (page.evaluate("scrollY") > 100) != moved_on


def test_an_error_is_led_to_and_focused(visit):
    page = visit(PAIR, **screen("phone", "light"))
    page.locator("#place .js-plotly-plot").wait_for()
    box(page, "a").fill("./missing")
    page.locator("#go").click()
    page.wait_for_function("document.activeElement.id === 'a-message'")
    assert in_view(page, "#a-message .wrong") and page.locator("#result section").count() == 0
    assert page.locator("#curves").is_hidden() and page.locator("#place").is_hidden()


def test_answers_are_live_and_pictures_have_a_text(visit):
    page = visit(PAIR)
    page.locator("#place .js-plotly-plot").wait_for()
    for id in ("result", "status", "cost", "a-message", "b-message"):
        assert page.locator(f"#{id}").get_attribute("aria-live") == "polite"
    for id in ("curves", "place"):
        label = page.locator(f"#{id} .js-plotly-plot").get_attribute("aria-label")
        assert "400 images of digits" in label and page.locator(f"#{id} [role=img]").count()
    assert all(page.locator("#result img").evaluate_all("images => images.map(i => i.alt.includes('A says'))"))
    heights = page.locator("#examples button, button.copy, #result summary").evaluate_all(
        "all => all.filter(e => e.offsetParent).map(e => e.getBoundingClientRect().height)"
    )
    assert len(heights) > 6 and min(heights) >= 32


def test_no_list_stays_open_when_it_is_tabbed_past(visit):
    page = visit(PAIR)
    for id in ("a", "b"):
        box(page, id).click()
        page.keyboard.type("demo", delay=20)
        page.keyboard.press("Tab")  # before the names have come, or after
        page.wait_for_timeout(600)
        assert page.locator("#names").is_hidden(), id
    box(page, "images").click()
    page.locator("ul[role=listbox] [role=option]").first.wait_for()
    page.keyboard.press("Tab")
    page.locator("ul[role=listbox]:not(#names)").wait_for(state="hidden")


# What is no longer asked goes


@pytest.mark.parametrize(
    ("id", "value", "words"),
    [
        ("k", "", "the number of images (k) is empty"),
        ("k", 1900, "digits has 1797 images"),
        ("k", 70, "thousand"),
        ("images", "./nothing", "does not exist"),
    ],
)
def test_an_answer_goes_when_something_else_is_asked(visit, id, value, words):
    page = visit(PAIR)
    page.locator("#place .js-plotly-plot").wait_for()
    fill(page, id, value)
    page.locator("#cost", has_text=words).wait_for()
    assert page.locator("#result section").count() == 0
    assert page.locator("#curves").is_hidden() and page.locator("#place").is_hidden()


# Pictures


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_matrix_tree_and_map_say_what_they_show(visit, size, scheme):
    page = visit(**screen(size, scheme))
    page.get_by_role("tab", name="Matrix", exact=True).click()
    for id in ("matrix", "tree", "map"):
        page.locator(f"#{id} .js-plotly-plot").wait_for()
        page.wait_for_function(f"document.querySelector('#{id} .js-plotly-plot .annotation')")
        text = page.locator(f"#{id} .js-plotly-plot").evaluate("plot => plot.textContent")
        for part in ("400 images of digits", "seed 0, protocol standard", "hf-infodist", "coding"):
            assert part in text
    assert page.locator("#map .xtick, #map .ytick, #map .xtitle").count() == 0
    assert page.locator("#map .annotation", has_text="bits per image").count() == 1  # the scale
    order = "id => document.querySelector(`#${id} .js-plotly-plot`).layout.yaxis.ticktext"
    assert page.evaluate(order, "matrix") == page.evaluate(order, "tree")
    overlaps = """() => {
        const names = [...document.querySelectorAll('#map .annotation text')]
          .filter(t => t.textContent.includes('demo:')).map(t => t.getBoundingClientRect());
        const dots = [...document.querySelectorAll('#map .point')].map(t => t.getBoundingClientRect());
        const frame = document.querySelector('#map .main-svg').getBoundingClientRect();
        const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
        return [names.length, names.filter((a, i) => names.some((b, j) => j < i && meet(a, b))).length,
          names.filter(a => dots.some(d => meet(a, d))).length,
          names.filter(a => a.left < frame.left || a.right > frame.right).length];
    }"""
    assert page.evaluate(overlaps) == [4, 0, 0, 0]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, f"pictures-{size}-{scheme}")


# Shared links


def test_a_shared_link_shows_this_project(site):
    with urllib.request.urlopen(f"{site.address}{PAIR}") as page:
        text = page.read().decode()
    head = text.partition("</head>")[0]
    found = dict(re.findall(r'<meta (?:property|name)="((?:og|twitter):[^"]+)" content="([^"]*)"', head))
    assert len(re.findall(r"(?:og|twitter):", head)) == len(found)
    assert found["og:title"] == found["twitter:title"] == "Information distance"
    assert "image classifier" in found["og:description"] and found["og:url"].startswith(site.address)
    with urllib.request.urlopen(found["og:image"]) as picture:
        assert picture.headers["content-type"] == "image/png"
        assert Image.open(picture).size == (1200, 630)


# Audit


@pytest.fixture(scope="module")
def axe():
    try:
        return (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        skip_or_fail("axe-playwright-python is not installed")


VIEWS = {"opens": ("/", ""), "answer": (PAIR, ""), "error": ("/?a=./x&b=demo:vit&images=./y", "")}
VIEWS |= {tab.lower(): ("/", tab) for tab in ("Nearest", "Start from", "Matrix", "About")}


@pytest.mark.parametrize(("size", "scheme"), SCREENS)
def test_an_audit_finds_nothing_serious(visit, axe, size, scheme):
    page = None
    for name, (path, tab) in VIEWS.items():
        if page is None or path != "/" or page.url.rstrip("/").endswith("y"):
            page = visit(path, **screen(size, scheme))
        if tab:
            page.get_by_role("tab", name=tab).click()
            if tab == "Start from":
                begin(page, "./one\n./two\n./missing", "./sorted")
            shown = {
                "Matrix": "#map .js-plotly-plot",
                "Nearest": "#nearest-go",
                "Start from": "#start-curves .js-plotly-plot",
            }
            page.locator(shown.get(tab, "h2:visible")).first.wait_for()
        if name == "answer":
            page.locator("#place .js-plotly-plot").wait_for()
            page.get_by_text("What other measures say").click()
        page.evaluate(axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, json.dumps([(name, one["id"], one["nodes"][0]["html"]) for one in serious], indent=1)
