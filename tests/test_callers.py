"""What callers pass: names as people copy them, numbers and pictures of every type; the rest is refused by type."""

import copy
import json
import pickle
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

from hf_infodist import information_distance, load_classifier, load_images, pairwise_distances
from hf_infodist.cli.matrix import read_names
from hf_infodist.errors import NotFoundError, UnfitError, UsageError
from hf_infodist.hub import plain_name
from hf_infodist.images.request import Sample
from hf_infodist.models.names import DEMO, locate
from hf_infodist.page.request import Limits, requested
from hf_infodist.protocol import PROTOCOLS, resolve_protocol

# Names

PASTED = {
    "https://huggingface.co/org/name": "org/name",
    "http://hf.co/org/name/": "org/name",
    "HTTPS://HuggingFace.co/Org/Name": "Org/Name",
    "huggingface.co/org/name/tree/main": "org/name@main",
    "https://huggingface.co/org/name/tree/refs%2Fpr%2F1": "org/name@refs/pr/1",
    "https://huggingface.co/org/name/tree/refs/convert/parquet/default": "org/name@refs/convert/parquet",
    "https://huggingface.co/org/name/blob/v1/config.json": "org/name@v1",
    "https://huggingface.co/org/name/resolve/v1.0/a/b.bin?download=true": "org/name@v1.0",
    "https://huggingface.co/org/name?library=timm#usage": "org/name",
    "https://huggingface.co/org/name/discussions/3": "org/name",
    "https://huggingface.co/datasets/org/name": "org/name",
    "https://huggingface.co/datasets/org/name/viewer/default/train": "org/name",
    "hf-hub:org/name": "org/name",
    "hf_hub:org/name@v2": "org/name@v2",
    "hf://org/name": "org/name",
    "hf://datasets/org/name@refs/convert/parquet": "org/name@refs/convert/parquet",
    " org/name ": "org/name",
    "org/name/": "org/name",
    "org/name@refs/pr/3": "org/name@refs/pr/3",
    "timm:resnet18.a1_in1k": "timm:resnet18.a1_in1k",
    "demo:cnn": "demo:cnn",
    "./here/": "./here/",
    "/a/b": "/a/b",
    "https://example.com/org/name": "https://example.com/org/name",
}


@pytest.mark.parametrize("pasted", PASTED)
def test_what_is_copied_from_a_browser_is_a_name(pasted):
    assert plain_name(pasted) == PASTED[pasted]
    assert plain_name(plain_name(pasted)) == plain_name(pasted)


def test_an_address_of_the_stand_in_is_one_of_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:99")
    assert plain_name("http://127.0.0.1:99/org/name/tree/v1") == "org/name@v1"


def test_a_folder_of_the_same_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert plain_name("org/name/") == "org/name/"
    with pytest.raises(UnfitError, match=r"no config\.json"):
        locate("org/name/", has_transform=True)


@pytest.mark.parametrize("name", ["https://huggingface.co/org/name/tree/main", "hf-hub:org/name", "org/name/"])
def test_every_door_takes_them(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for take in (lambda name: locate(name, has_transform=True), load_images):
        with pytest.raises(NotFoundError, match=r"'org/name(@main)?' cannot be fetched now"):
            take(name)
    assert requested(name, "demo:cnn", limits=Limits()).a == plain_name(name)


def test_revisions_of_data_sets_may_have_slashes(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFoundError, match=r"'org/name' cannot be fetched now"):
        load_images("org/name@refs/convert/parquet")


WRONG = {  # what is suggested is what was nearest, in any case of letters, and never merely the first of a list
    "torchvision:resnet50@imagenet1k_v2": r"did you mean torchvision:resnet50@IMAGENET1K_V2\?",
    "torchvision:resnet50@IMAGENET1K_V3": r"did you mean torchvision:resnet50@IMAGENET1K_V",
    "torchvision:resnet50@swag": r"it has IMAGENET1K_V1, IMAGENET1K_V2\nuse torchvision:resnet50@ with one of these",
    "torchvision:ResNet50": r"did you mean torchvision:resnet50",
    "timm:ResNet18.A1_in1k": r"did you mean timm:resnet18\.a1_in1k",
    "TIMM:resnet18": r"did you mean timm:resnet18\?",
    "a" * 300: r"there is no model",
    "./" + "a" * 300: r"there is no folder",
    "nul\0byte": r"there is no model",
    "demo:CNN": r"use demo:cnn",
}


@pytest.mark.parametrize("name", WRONG, ids=lambda name: name[:40].replace("\0", "0"))
def test_a_wrong_name_leads_to_the_nearest(name):
    with pytest.raises((NotFoundError, UsageError), match=WRONG[name]):
        locate(name, has_transform=True)
    with pytest.raises((NotFoundError, UsageError)):
        load_images(name)


NAMES = ["demo:cnn", "demo:vit", "./run#1", "org/größe"]
TEXT = "# mine\ndemo:cnn\n\n  demo:vit   # a remark\n./run#1\norg/größe\n"


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_file_of_names_is_read_in_every_coding_of_editors(coding, line, tmp_path):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(coding, b"")
    (tmp_path / "models.txt").write_bytes(mark + TEXT.replace("\n", line).encode(coding))
    assert read_names([str(tmp_path / "models.txt")]) == NAMES


def test_a_file_of_names_that_is_none_is_told(tmp_path):
    with pytest.raises(NotFoundError, match=r"there is no file .*models\.txt\nnames of models"):
        read_names([str(tmp_path / "models.txt")])
    (tmp_path / "models.txt").write_bytes(b"\xfc\xe9 latin")
    with pytest.raises(UnfitError, match=r"is no list of names\nit is no text of utf-8"):
        read_names([str(tmp_path / "models.txt")])
    assert read_names(["demo:cnn"]) == ["demo:cnn"] and read_names([str(tmp_path)]) == [str(tmp_path)]


# Numbers


@pytest.mark.parametrize("number", [np.int64(3), np.int8(3), np.uint16(3), np.float64(3), 3.0, torch.tensor(3)])
def test_whole_numbers_of_every_type_are_taken(number):
    sample = Sample("digits", k=number, seed=number)
    assert (sample.k, sample.seed) == (3, 3) and type(sample.k) is type(sample.seed) is int
    protocol = resolve_protocol("standard", number, number)
    assert (protocol.orders, protocol.seed) == (3, 3) and type(protocol.orders) is type(protocol.seed) is int
    assert load_images("digits", k=9).first(number).k == 3


@pytest.mark.parametrize("number", ["3", 2.5, float("nan"), float("inf"), [3], None, np.array([3, 4])])
def test_what_is_no_whole_number_is_refused_by_type(number):
    if number is not None:
        with pytest.raises(UsageError, match=r"k = .*\nk is a whole number, and this is of type"):
            Sample("digits", k=number)
    with pytest.raises(UsageError, match=r"seed is a whole number"):
        Sample("digits", seed=number)
    with pytest.raises(UsageError, match=r"orders is a whole number"):
        PROTOCOLS["standard"].__class__(**{**vars(PROTOCOLS["standard"]), "orders": number})


def test_a_result_of_such_numbers_is_json(tmp_path):
    result = information_distance(
        "demo:cnn", "demo:vit", "digits", k=np.int64(20), seed=np.int32(1), orders=np.int8(2)
    )
    again = information_distance("demo:cnn", "demo:vit", "digits", k=2e1, seed=1, orders=2)
    assert json.loads(json.dumps(result.to_dict()))["images"]["k"] == 20 and again.nats == result.nats


# Models


def test_paths_are_names():
    assert load_classifier(DEMO / "cnn").num_classes == 10
    result = pairwise_distances([DEMO / "cnn", "demo:vit"], "digits", k=16)
    assert result.models[0].id == str(DEMO / "cnn")
    metric = evaluate.load(str(Path(__file__).parents[1] / "metrics" / "infodist"))
    found = metric.compute(predictions=[DEMO / "cnn"], references=["demo:vit"], images="digits", k=16)
    assert found["infodist"] == [float(result.distances[0, 1])]


@pytest.mark.parametrize("model", [3, None, b"demo:cnn"[0], ["demo:cnn"], {"a": 1}])
def test_what_is_no_model_is_refused_by_type(model):
    for take in (load_classifier, lambda model: information_distance(model, "demo:vit", "digits", k=4)):
        with pytest.raises(UsageError, match=r"no model can be loaded from a \w+"):
            take(model)


def test_a_metric_can_be_copied_and_sent_to_another_process():
    metric = evaluate.load(str(Path(__file__).parents[1] / "metrics" / "infodist"), "paper", seed=4)
    for twin in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        assert (twin.config_name, twin.seed) == ("paper", 4)
        twin.add(prediction="demo:cnn", reference="demo:cnn")
        with pytest.raises(UsageError, match=r"cannot be copied\n.*\ncall compute first"):
            pickle.dumps(twin)
        assert twin.compute(images="digits", k=8)["infodist"] == [0.0]


# Pictures


@pytest.fixture
def arrays():
    return list(np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8))


def test_lists_of_every_kind_of_picture_are_one_sample(arrays, tmp_path):
    pictures = [Image.fromarray(array) for array in arrays]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    expected = [picture.tobytes() for picture in load_images(pictures)]
    whole = torch.from_numpy(np.stack(arrays)).movedim(3, 1)
    for kind in (
        arrays,
        paths,
        list(map(str, paths)),
        [path.read_bytes() for path in paths],
        [memoryview(path.read_bytes()) for path in paths],
        list(whole),
        list(whole.float() / 255),
        tuple(pictures),
        np.stack(arrays),
    ):
        assert [picture.tobytes() for picture in load_images(kind)] == expected
    labelled = load_images([(picture, np.int64(number % 2)) for number, picture in enumerate(pictures)])
    assert [picture.tobytes() for picture in labelled] == expected
    assert labelled.labels == [int(row) % 2 for row in labelled._rows]


NO_PICTURES = {
    "a number": (7, r"it is a int; pass pictures"),
    "a pair of something else": (("a", "b", "c"), r"it is a tuple"),
    "a set": ({1, 2}, r"it is a set"),
    "nothing": (None, r"it holds no image"),
    "a normalised tensor": (torch.randn(3, 4, 4) * 3, r"its values are float32 from -.*before it was normalised"),
    "a tensor of whole numbers": (torch.arange(16).reshape(4, 4), r"its values are int64"),
    "a file that is not there": ("nowhere/at/all.png", r"No such file"),
    "an object": (object(), r"it is a object"),
}


@pytest.mark.parametrize("case", NO_PICTURES)
def test_what_is_no_picture_is_refused_by_type(case, arrays):
    value, text = NO_PICTURES[case]
    with pytest.raises(UnfitError, match=rf"row 1 of list cannot be read as an image\n.*{text}"):
        load_images([arrays[0], value, arrays[1]])
