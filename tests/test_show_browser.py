"""The page in a real browser."""

from urllib.parse import quote

import pytest
from show_browser import PHONE, Site, box, fill, free_port, shoot
from show_server import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    store, port = tmp_path_factory.mktemp("store"), free_port()
    with serving(store, port) as address:
        yield Site(address, store, port)


def test_a_first_visit_is_told_what_to_do_and_what_it_costs(visit):
    page = visit()
    assert page.title() == "Information distance"
    assert box(page, "a").input_value() == "EfficientNet-Lite0"
    assert "EfficientNet-Lite1" in page.locator("#result").inner_text()
    fill(page, "a", "demo:cnn")
    page.locator("#a-message:not(:has(p))").wait_for(state="attached")
    fill(page, "b", "demo:vit")
    fill(page, "images", "digits")
    fill(page, "k", 64)
    page.locator("#cost", has_text="GFLOP").wait_for()
    assert "about" in page.locator("#cost").inner_text()
    shoot(page, "first")


def test_an_example_is_answered_at_once_with_everything(visit):
    page = visit()
    page.get_by_role("button", name="demo:cnn ↔ demo:vit", exact=True).click()
    page.locator("#curves .js-plotly-plot").wait_for()
    result = page.locator("#result section")
    text = result.inner_text()
    for part in ("bits", "same weights", "other seed", "other task", "random network"):
        assert part in text.replace("\n", " ")
    for part in ("the distance", "bits per image", "differ most", "Copy as"):
        assert part in text
    assert result.locator("img").count() == 8
    page.locator("#place .js-plotly-plot").wait_for()
    page.get_by_text("What other measures say").click()
    assert "linear CKA" in result.inner_text()
    shoot(page, "example")
    page.get_by_role("button", name="Python").click()
    copied = result.locator(".copied")
    page.wait_for_function("document.querySelector('.copied').innerHTML.length > 0")
    assert "Python copied" in copied.inner_text() or "information_distance" in copied.locator("textarea").input_value()


def test_comparing_moves_the_curve_and_its_link_survives_a_restart(visit, site, tmp_path):
    page = visit("/?a=demo:cnn&b=demo:vit&k=300&protocol=thorough")  # long enough to be watched
    page.locator("#go").click()
    points = "document.querySelector('#curves .js-plotly-plot')?.data?.map(line => line.x.length) ?? [0, 0]"
    page.wait_for_function(f"({points})[0] + ({points})[1] > 3")
    before = page.evaluate(points)
    shoot(page, "running")
    page.wait_for_function(f"({points})[0] + ({points})[1] > {sum(before)}")
    page.locator("#result section").wait_for()
    answer = page.locator("#result .big").inner_text()
    assert "k=300" in page.url and page.locator("#halt").is_hidden()
    link = page.url.removeprefix(site.address)
    with serving(site.store, free_port()) as restarted:
        again = visit(link, restarted)
        again.locator("#curves .js-plotly-plot").wait_for()
        assert again.locator("#result .big").inner_text() == answer
        assert box(again, "k").input_value() == "300"


def test_stopping_keeps_what_there_is_marked_as_partial(visit):
    page = visit("/?a=demo:cnn&b=random:demo:vit&k=1500&protocol=thorough")
    page.locator("#go").click()
    page.locator("#status", has_text="bits so far").wait_for()
    page.locator("#halt").click()
    partial = page.locator("#result .partial")
    partial.wait_for()
    assert "Partial result" in partial.inner_text() and "of 1500" in partial.inner_text()
    assert page.locator("#curves .js-plotly-plot").is_visible() and page.locator("#go").is_visible()
    shoot(page, "partial")


def begin(page, models, **settings):
    page.get_by_role("tab", name="Start from").click()
    box(page, "start-models").fill(models)
    for name, value in settings.items():
        fill(page, f"start-{name}", value)
    page.locator("#start-go").click()


@pytest.mark.parametrize(
    "screen", [{}, {"viewport": PHONE, "has_touch": True, "is_mobile": True}], ids=["wide", "phone"]
)
def test_models_to_start_from_are_ranked_as_they_are_done(visit, screen):
    page = visit(**screen)
    begin(page, "demo:vit\nrandom:demo:vit\ndemo:cnn", k=300 if screen else 301)
    page.locator("#start-result .bars li", has_text="demo:vit").first.wait_for()
    page.locator("#start-result .copies").wait_for()
    rows = page.locator("#start-result .bars li").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["demo:cnn", "demo:vit", "random:demo:vit"]
    assert "best" in rows[0] and all("±" in row and "bits per label" in row for row in rows)
    assert "more than the best" in rows[2] and "tied" not in rows[2]
    assert page.locator("#start-result .sentence").inner_text().startswith("Start from demo:cnn")
    assert page.locator("#start-result tbody tr").count() == 4 and page.locator("#start-halt").is_hidden()
    page.wait_for_function("document.querySelector('#start-curves .js-plotly-plot')?.data.length === 4")
    page.wait_for_function("document.activeElement.id === 'start-result'")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "start-phone" if screen else "start")


def test_what_cannot_be_ranked_is_told_and_takes_the_answer_away(visit):
    page = visit()
    begin(page, "demo:cnn\ndemo:vit", k=20)
    page.locator("#start-result .copies").wait_for()
    page.locator("#start-curves .js-plotly-plot").wait_for()
    wrong = {
        ("", "digits", 20): "no models here yet",
        ("demo:cnn", "digits", 20): "only one model",
        ("demo:cnn\ndemo:cnn", "digits", 20): "named twice",
        (f"demo:cnn\n{HOSTILE['image']}", "digits", 20): "not a model that this page takes",
        ("demo:cnn\ndemo:vit", "digits", 9): "not offered here",
        ("demo:cnn\ndemo:vit", "digits", 1900): "fewer than k = 1900",
        ("demo:cnn\ndemo:vit", "./photos", 20): "not offered here",
    }
    for (models, images, k), words in wrong.items():
        begin(page, models, images=images, k=k)
        page.locator("#start-models-message .wrong", has_text=words).wait_for()
        assert page.locator("#start-result section").count() == 0 and page.locator("#start-curves").is_hidden()
        page.wait_for_function("document.activeElement.id === 'start-models-message'")
    assert box(page, "start-models").get_attribute("aria-invalid") == "true"
    assert page.title() == "Information distance"


HOSTILE = {
    "script": "<script>document.title='broken'</script>",
    "image": "<img src=x onerror=\"document.title='broken'\">",
    "template": "${document.title='broken'}",
    "handlebars": "{{#each value}}<b>{{this}}</b>{{/each}}",
    "path": "../../etc/passwd",
}


def test_errors_are_said_in_place_and_hostile_names_stay_text(visit):
    page = visit()
    for name in HOSTILE.values():
        fill(page, "a", "demo:cnn")
        page.wait_for_function("!document.querySelector('#a-message .wrong')")
        fill(page, "a", name)
        page.locator("#a-message .wrong").wait_for()
        assert name[:20] in page.locator("#a-message").inner_text()
        assert page.locator("#a-message").locator("script, img, b").count() == 0
    assert box(page, "a").get_attribute("aria-invalid") == "true"
    shoot(page, "error")
    page.locator("#go").click()
    fill(page, "a", "demo:cn")
    page.locator("#a-message", has_text="did you mean demo:cnn").wait_for()
    assert page.title() == "Information distance"
    from_link = visit(f"/?a={quote(HOSTILE['script'])}&b=demo:vit")
    from_link.locator("#a-message .wrong").wait_for()
    assert from_link.title() == "Information distance"


def test_typing_queues_nothing_that_a_stream_which_closes_just_then_could_lose(visit):
    page = visit("/?a=demo:cnn&b=demo:vit")
    page.locator("#place .js-plotly-plot").wait_for()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    box(page, "b").click()
    page.keyboard.type("random:demo:cnn", delay=20)
    fill(page, "k", 65)
    page.locator("#cost", has_text="GFLOP").wait_for()
    assert page.locator("#result section").count() == 0
    page.locator("#swap").click()
    page.wait_for_function("document.querySelector('#b input, #b textarea').value === 'demo:cnn'")
    fill(page, "a", "demo:vit")
    fill(page, "k", 400)
    page.locator("#cost", has_text="measured before").wait_for()
    assert any("/run/predict" in url for url in asked) and not any("/queue/" in url for url in asked), asked


def test_everything_is_done_with_the_keyboard_alone(visit):
    page = visit("/?a=demo:cnn&b=demo:vit")
    page.locator(".answer").first.wait_for()  # of the link; it would take away what is said of another pair
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#a') !== null"):
            break
    page.keyboard.type("random:demo:c")
    page.locator("#names [role=option]").first.wait_for()
    assert box(page, "a").get_attribute("aria-expanded") == "true"
    shoot(page, "names")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert box(page, "a").input_value() == "random:demo:cnn"
    page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")  # no hand is as fast
    page.keyboard.press("Tab")
    page.keyboard.type("demo:cnn")
    page.locator("#names [role=option]").first.wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#names").is_hidden()
    page.locator("#cost p").wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText === 'Swap A and B'"):
            break
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#a input, #a textarea').value === 'demo:cnn'")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator("#result section").wait_for()


def test_every_control_has_a_name(visit):
    page = visit("/?a=demo:cnn&b=demo:vit")
    page.locator("#result section").wait_for()
    nameless = """[...document.querySelectorAll('main button, main input, main textarea, main img')]
        .filter(e => e.offsetParent && !(e.getAttribute('aria-label') || e.alt || e.innerText || e.title
            || e.labels?.length || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML.slice(0, 200))"""
    assert page.evaluate(nameless) == []


def test_a_phone_shows_everything_without_scrolling_sideways(visit):
    page = visit("/?a=demo:cnn&b=demo:vit", viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.locator("#place .js-plotly-plot").wait_for()
    page.wait_for_function(f"document.documentElement.scrollWidth <= {PHONE['width']}")
    shoot(page, "phone")
    page.get_by_role("tab", name="Matrix", exact=True).click()
    page.locator("#matrix .js-plotly-plot").wait_for()
    page.wait_for_function(f"document.documentElement.scrollWidth <= {PHONE['width']}")
    shoot(page, "phone-matrix")


CONTRAST = """selector => {
  const numbers = colour => { const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    c.fillStyle = colour; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const under = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (numbers(c)[3] > 250) return numbers(c); } return [255, 255, 255, 255]; };
  return Math.min(...[...document.querySelectorAll(selector)].filter(e => e.offsetParent).map(e => {
    const back = under(e), front = numbers(getComputedStyle(e).color), a = front[3] / 255;
    const [x, y] = [light(front.map((v, i) => a * v + (1 - a) * back[i])), light(back)];
    return (Math.max(x, y) + .05) / (Math.min(x, y) + .05); }));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark_mode(visit, scheme):
    page = visit("/?a=demo:cnn&b=demo:vit", color_scheme=scheme)
    page.locator("#place .js-plotly-plot").wait_for()
    dark = page.evaluate("document.body.classList.contains('dark')")
    assert dark == (scheme == "dark")
    for part in (
        "#result p",
        "#result td",
        "#result figcaption",
        "#result .mark span",
        "#result .quiet",
        "button.copy",
    ):
        assert page.evaluate(CONTRAST, part) >= 4.5, part
    shoot(page, scheme)


def test_a_click_in_the_matrix_loads_the_pair(visit):
    page = visit()
    page.get_by_role("tab", name="Matrix", exact=True).click()
    page.locator("#matrix .js-plotly-plot .heatmaplayer").wait_for()
    page.locator("#map .js-plotly-plot .scatterlayer").wait_for()
    page.wait_for_function("document.querySelector('#matrix .js-plotly-plot').dataset.dressed")
    shoot(page, "matrix")
    drag = page.locator("#matrix .nsewdrag").first
    size = drag.bounding_box()
    drag.click(position={"x": size["width"] * 0.9, "y": size["height"] * 0.1})  # first row, last column
    page.locator("#result section").wait_for()
    assert {box(page, "a").input_value(), box(page, "b").input_value()} == {"demo:vit", "random:demo:vit"}
    assert page.get_by_role("tab", name="Compare").get_attribute("aria-selected") == "true"
