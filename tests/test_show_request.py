"""What the page takes from visitors, and that everything else is refused and shown as text."""

import html.parser
from urllib.parse import parse_qsl

import pytest

from hf_infodist.errors import NotFoundError, UnfitError
from hf_infodist.page import views
from hf_infodist.page.events import Failed
from hf_infodist.page.request import Comparison, Limits, Refusal, request_in_link, requested, shown
from hf_infodist.page.starts import Start, question_of, requested_starts
from hf_infodist.page.telling import in_public

LIMITS = Limits()

HOSTILE_NAMES = {
    "nothing": "",
    "nothing, of another type": None,
    "a list": ["demo:cnn"],
    "path traversal": "../../etc/passwd",
    "path traversal between words": "org/../../etc/passwd",
    "dots as a name": "org/..",
    "dots within a name": "org/a..b",
    "path traversal in the revision": "org/name@../../main",
    "encoded path traversal": "org/%2e%2e%2fpasswd",
    "path traversal of another system": "..\\..\\windows\\win.ini",
    "path": "/etc/passwd",
    "path of a folder here": "./hf_infodist/models/demo/cnn",
    "path of a home": "~/model",
    "three parts": "org/name/file",
    "address": "https://example.com/model.safetensors",
    "address without a scheme": "//example.com/model",
    "address of a file": "file:///etc/passwd",
    "address of another store": "s3://bucket/model",
    "script": "<script>alert(1)</script>",
    "image that runs a script": "<img src=x onerror=alert(1)>",
    "attribute that ends early": 'org/"onmouseover="alert(1)',
    "template of JavaScript": "${alert(1)}",
    "template of Handlebars": "{{constructor.constructor('alert(1)')()}}",
    "template of Python": "{{7*7}}{%raw%}",
    "ten thousand characters": "a/" + "b" * 10_000,
    "ten thousand characters of a revision": "org/name@" + "b" * 10_000,
    "null byte": "org/name\0.safetensors",
    "line feed": "org/name\nSet-Cookie: a=b",
    "escape of a terminal": "org/\x1b[31mname",
    "right-to-left override": "org/\u202egnp.eman",
    "zero-width space": "org/na\u200bme",
    "full-width letters": "ｏｒｇ／ｎａｍｅ",
    "letters of another script": "gооgle/vit",
    "lone surrogate": "org/\ud800",
    "combining marks": "org/n" + "\u0301" * 50,
    "library": "timm:resnet18",
    "other library": "torchvision:resnet50",
    "demo that is none": "demo:../cnn",
    "random of a repository": "random:org/name",
    "random of a large network": "random:timm:vit_giant_patch14_224",
    "random twice": "random:random:demo:cnn",
    "command": "org/name; rm -rf /",
    "option": "--help",
    "dash first": "-org/name",
    "address of this machine": "127.0.0.1:8080/model",
    "revision that is a flag": "org/name@-x",
}


class Text(html.parser.HTMLParser):
    """What a browser makes of HTML: its tags and its text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
@pytest.mark.parametrize("box", ["a", "b"])
def test_hostile_names_are_refused_in_their_box_and_shown_as_text(name, box):
    names = {"a": "demo:cnn", "b": "demo:vit", box: name}
    with pytest.raises(Refusal) as refused:
        requested(**names, limits=LIMITS)
    assert refused.value.field == box
    lines = in_public(refused.value)
    assert all(line.isprintable() and 0 < len(line) < 200 for line in lines)
    page = views.message(Failed(*lines, box))
    assert [tag for tag, _ in Text(page).tags] == ["p", "strong", "br"]
    assert not set("${}`") & set(page)


@pytest.mark.parametrize(
    "name",
    [
        *("demo:cnn", "demo:vit", "random:demo:cnn", " demo:cnn ", "timm/resnet18.a1_in1k", "microsoft/resnet-18"),
        *(
            "google/vit-base-patch16-224@main",
            "org/name@refs/pr/12",
            "a/b",
            "org/name@0123456789abcdef0123456789abcdef",
        ),
    ],
)
def test_names_of_the_hub_and_embedded_ones_are_taken(name):
    assert requested(name, "demo:vit", limits=LIMITS).a == name.strip()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("k", k)
            for k in (0, 15, -1, 2001, 10**30, 1e400, float("nan"), 100.5, "many", "1" * 5000, None, [64], True)
        ),
        *(("seed", seed) for seed in (-1, 2**40, "x", 0.5, None)),
        *(
            ("images", i)
            for i in ("/etc", "../data", "org/unlisted", "https://example.com/x.parquet", "", None, ["digits"])
        ),
        *(("protocol", p) for p in ("paper", "QUICK", "quick\0", "", None, {"name": "standard"})),
    ],
)
def test_settings_that_are_not_offered_are_refused(field, value):
    with pytest.raises(Refusal) as refused:
        requested("demo:cnn", "demo:vit", **{field: value}, limits=LIMITS)
    assert refused.value.field == field
    assert all(len(line) < 200 for line in in_public(refused.value))


def test_limits_decide_how_many_images_are_taken():
    assert requested("demo:cnn", "demo:vit", k=50, limits=Limits(images=50)).k == 50
    with pytest.raises(Refusal, match="use 16 to 50"):
        requested("demo:cnn", "demo:vit", k=51, limits=Limits(images=50))


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(Refusal, match="did you mean demo:cnn"):
        requested("demo:cn", "demo:vit", limits=LIMITS)


def test_a_link_leads_back_to_its_comparison():
    for pair in (
        Comparison("demo:cnn", "demo:vit"),
        Comparison("a/b@v1", "c/d", "uoft-cs/cifar10", 64, "standard", 3),
    ):
        assert request_in_link(dict(parse_qsl(pair.query)), limits=LIMITS) == pair


def test_a_page_without_a_question_asks_none_and_half_a_question_is_refused():
    assert request_in_link({}, limits=LIMITS) is None
    assert request_in_link({"theme": "dark", "k": "5"}, limits=LIMITS) is None
    with pytest.raises(Refusal) as refused:
        request_in_link({"a": "demo:cnn"}, limits=LIMITS)
    assert refused.value.field == "b"


def test_records_are_named_by_all_that_decides_the_number():
    pairs = {
        Comparison("demo:cnn", "demo:vit"),
        Comparison("demo:vit", "demo:cnn"),
        Comparison("demo:cnn", "demo:vit", k=401),
        Comparison("demo:cnn", "demo:vit", seed=1),
        Comparison("demo:cnn", "demo:vit", protocol="standard"),
        Comparison("demo:cnn", "demo:vit", "uoft-cs/cifar10"),
    }
    assert len({pair.key for pair in pairs}) == len(pairs)
    assert all(len(pair.key) == 32 for pair in pairs)


def test_a_change_of_the_protocol_gives_records_other_names(monkeypatch):
    from dataclasses import replace

    from hf_infodist.page import request as module

    pair = Comparison("demo:cnn", "demo:vit")
    before = pair.key
    monkeypatch.setitem(module.PROTOCOLS, "standard", replace(module.PROTOCOLS["standard"], passes=5))
    assert pair.key != before


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("/usr/lib/python3/secret.py failed at 0x7f"),
        UnfitError(
            "the checkpoint /home/user/store/runs/abc cannot be read", "mv /root/x /root/y", "see ~/a/b/c.json"
        ),
        NotFoundError("C:\\Users\\me\\model is missing", "in '/tmp/a/b'", "look (/var/lib/x/y)"),
    ],
)
def test_errors_in_public_name_nothing_of_this_machine(error):
    text = " ".join(in_public(error))
    assert not any(
        word in text for word in ("/usr", "/home", "/root", "/tmp", "/var", "~/a", "Users", "secret", "0x7f")
    )


def test_errors_in_public_keep_names_and_addresses_of_the_hub():
    error = NotFoundError("there is no model 'org/name'", "see https://huggingface.co/org/name", "use org/other@v1")
    assert in_public(error) == (error.what, error.why, error.fix)


def test_what_is_repeated_is_short_and_printable():
    assert shown("a" * 10_000) == f"‘{'a' * 60}…’"
    assert shown("x\0\u202ey") == "‘x��y’"


# Which models to start from


MODELS = ["demo:cnn", "demo:vit", "random:demo:cnn"]


def test_each_model_is_a_question_of_its_own():
    asked = requested_starts(MODELS, "digits", 64.0, "thorough", "3", " label ", limits=LIMITS)
    assert asked == [Start(name, "digits", 64, "thorough", 3, "label") for name in MODELS]
    assert [question_of(one.what, one.to_dict()) for one in asked] == asked
    assert question_of("compare", Comparison("a", "b").to_dict()) == Comparison("a", "b")


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES.values() if name not in ("", None)], ids=repr)
def test_hostile_names_are_refused_among_others(name):
    with pytest.raises(Refusal) as refused:
        requested_starts(["demo:cnn", name], limits=LIMITS)
    assert refused.value.field == "models" and len(str(refused.value)) < 600


WRONG = {
    "no model": ({"models": []}, "models", "no models here yet"),
    "no model at all": ({"models": None}, "models", "no models here yet"),
    "one model": ({"models": ["demo:cnn"]}, "models", "only one model"),
    "a text": ({"models": "demo:cnn"}, "models", "only one model"),
    "one model twice": ({"models": ["demo:cnn", "demo:vit", " demo:cnn"]}, "models", "named twice"),
    "an address of the same": ({"models": ["org/a", "https://huggingface.co/org/a"]}, "models", "named twice"),
    "too many": ({"models": [f"org/a{i}" for i in range(21)]}, "models", "21 models are too many"),
    "a path of images": ({"images": "../data"}, "images", "not offered"),
    "an address of images": ({"images": "https://example.com/x.parquet"}, "images", "not offered"),
    "few images": ({"k": 3}, "k", "not offered"),
    "many images": ({"k": 10**6}, "k", "not offered"),
    "no number": ({"k": None}, "k", "is empty"),
    "a protocol without labels": ({"protocol": "single"}, "protocol", "standard, thorough"),
    "a seed below zero": ({"seed": -1}, "seed", "not offered"),
    "two lines of a column": ({"label": "a\nb"}, "label", "no column"),
    "a long column": ({"label": "x" * 10_000}, "label", "no column"),
    "a list of columns": ({"label": ["label"]}, "label", "no column"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_refused_with_its_box(kind):
    change, field, words = WRONG[kind]
    with pytest.raises(Refusal) as refused:
        requested_starts(**{"models": MODELS} | change, limits=LIMITS)
    assert refused.value.field == field and words in str(refused.value)


def test_on_one_s_own_machine_every_name_is_taken():
    asked = requested_starts(["./mine", "timm:resnet18"], "./photos", 2, limits=Limits(public=False))
    assert [one.model for one in asked] == ["./mine", "timm:resnet18"] and asked[0].images == "./photos"
