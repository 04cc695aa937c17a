"""The tab of atlases in a real browser, and its function for programs."""

import json
import shutil
from importlib import resources

import pytest
from show_browser import PHONE, Site, box, free_port, shoot, skip_or_fail
from show_server import serving

from hf_infodist.results.atlas.shipped import SHIPPED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SCREENS = {"wide": {"viewport": {"width": 1280, "height": 800}}}
SCREENS["phone"] = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
MAP = "#atlas-map .js-plotly-plot"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with an atlas of three models, whose map nobody has computed."""
    here = tmp_path_factory.mktemp("here")
    (here / "mine" / "models").mkdir(parents=True)
    shutil.copy(SHIPPED["demo:digits"] / "atlas.json", here / "mine")
    for path in sorted((SHIPPED["demo:digits"] / "models").glob("*.safetensors"))[:3]:
        shutil.copy(path, here / "mine" / "models")
    return here


@pytest.fixture(scope="module")
def site(here):
    with serving(here / "store", port := free_port(), cwd=here, public=False) as address:
        yield Site(address, here / "store", port)


@pytest.fixture(scope="module")
def axe():
    try:
        return (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        skip_or_fail("axe-playwright-python is not installed")


def ask(page, model, *, suggested=False):
    box(page, "atlas-model").fill(model)
    if suggested:  # on a phone the suggestions lie over the button until one is taken
        page.get_by_role("option", name=model, exact=True).click()
    page.locator("#atlas-go").click()


def marked(page):
    """How many points of the map stand out."""
    return page.evaluate(f"document.querySelector('{MAP}').data[0].marker.symbol.filter(s => s == 'diamond').length")


def audit(page, axe, name):
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, json.dumps([(name, one["id"], one["nodes"][0]["html"]) for one in serious], indent=1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("phone", "dark")])
def test_a_model_of_the_atlas_is_asked_about(visit, axe, size, scheme):
    page = visit(**SCREENS[size], color_scheme=scheme)
    page.get_by_role("tab", name="Atlas").click()
    page.locator(MAP).wait_for()
    box(page, "atlas-model").press_sequentially("vit")
    page.locator("#names [role=option]", has_text="digits/vit-1").wait_for()
    page.keyboard.press("Escape")
    ask(page, "digits/resnet10-0", suggested=True)
    page.locator("#atlas-result section").wait_for()
    rows = page.locator("#atlas-result .bars li").all_inner_texts()
    assert len(rows) == 10 and rows[0].startswith("digits/resnet10-0-tuned")
    assert all("±" in row and "it given digits/resnet10-0: " in row for row in rows)
    assert any("\n= " in row for row in rows)
    page.get_by_text("What the atlas says of them").click()
    assert "apache-2.0" in page.locator("#atlas-result details").inner_text()
    box(page, "atlas-find").press_sequentially("vit")
    page.locator("#atlas-found", has_text="3 of 16 models").wait_for()
    page.wait_for_function(f"document.querySelector('{MAP}').data[0].marker.symbol.includes('diamond')")
    assert marked(page) == 3
    shoot(page, f"atlas-{size}-{scheme}")
    audit(page, axe, "answer")
    ask(page, "<img src=x onerror=\"document.title='broken'\">\x07")
    page.locator("#atlas-model-message .wrong").wait_for()
    assert page.locator("#atlas-result section").count() == 0 and page.title() == "Information distance"
    shoot(page, f"atlas-error-{size}-{scheme}")
    audit(page, axe, "error")


def test_another_model_is_run_and_the_map_of_a_folder_is_drawn_once(visit):
    page = visit(**SCREENS["wide"])
    page.get_by_role("tab", name="Atlas").click()
    page.locator(MAP).wait_for()
    box(page, "atlas-choice").fill("./mine")
    box(page, "atlas-choice").press("Enter")
    page.locator("#atlas-draw").click()
    page.locator("#atlas-status .progress").wait_for()
    page.wait_for_function(f"document.querySelector('{MAP}')?.data[0].marker.symbol.length === 3")
    ask(page, "random:demo:vit")
    page.locator("#atlas-result section", has_text="Nearest to random:demo:vit in ./mine").wait_for()
    assert page.locator("#atlas-result .bars li").count() == 3
    shoot(page, "atlas-new")


def test_programs_have_the_json_of_the_command(site):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(site.address, verbose=False)
    fields = client.predict("digits/vit-0", n=3, api_name="/nearest")
    assert fields["schema"] == "infodist.nearest/1" and len(fields["neighbours"]) == 3
    assert json.loads(client.predict("digits/vit-0", n=3, api_name="/nearest_json")) == fields
    with pytest.raises(AppError, match="not offered here"):
        client.predict("digits/vit-0", n=1000, api_name="/nearest")
