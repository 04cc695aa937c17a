"""Checkpoints as people save them: what the libraries read is read, and what they would not read is not looked at."""

import copy
import json
import shutil

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoImageProcessor, TimmWrapperConfig, TimmWrapperForImageClassification

from hf_infodist import information_distance, load_classifier
from hf_infodist.errors import UnfitError
from hf_infodist.models.labels import _from_zero
from hf_infodist.models.names import DEMO


class Opens:
    """What no checkpoint needs: torch refuses to read it without running code."""


@pytest.fixture(params=["cnn", "vit"])
def folder(request, tmp_path):
    shutil.copytree(DEMO / request.param, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def vit(tmp_path):
    shutil.copytree(DEMO / "vit", tmp_path / "vit")
    return tmp_path / "vit"


def settings(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pickled(folder):
    """Turn safetensors into what torch.save writes."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def logits(classifier):
    with torch.no_grad():
        image = Image.radial_gradient("L").convert("RGB")
        return classifier.network(classifier.preprocessing.transform(image)[None])


def same(classifier, name):
    other = load_classifier(str(DEMO / name))
    torch.testing.assert_close(logits(classifier), logits(other))
    return classifier.weights_hash == other.weights_hash


def test_a_trainer_s_folder_is_read_for_its_weights_alone(folder):
    name = "cnn" if "architecture" in json.loads((folder / "config.json").read_text()) else "vit"
    pickled(folder)
    for other in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        if other != "rng_state.pth" or name == "vit":  # timm reads files of that ending
            torch.save(Opens(), folder / other)
    assert same(load_classifier(str(folder)), name)


@pytest.mark.parametrize("dummy", ["dummy.safetensors", "adapter_model.safetensors", "model.fp16.safetensors"])
def test_a_file_that_is_not_read_vouches_for_none_that_is(folder, dummy):
    (folder / "model.safetensors").rename(folder / dummy)
    torch.save({"weight": Opens()}, folder / "pytorch_model.bin")
    with pytest.raises(
        UnfitError, match=r"pytorch_model\.bin is unsafe\nit is a pickle that may run code; it was not run"
    ):
        load_classifier(str(folder))
    with pytest.raises(UnfitError, match=r"has no safetensors"):
        load_classifier(str(folder), pickles=False)


def test_an_index_names_the_files(vit):
    weights = load_file(vit / "model.safetensors")
    half = len(weights) // 2
    parts = {"model-00001-of-00002.safetensors": list(weights)[:half], "other-name.safetensors": list(weights)[half:]}
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, vit / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    (vit / "model.safetensors.index.json").write_text(json.dumps(index))
    (vit / "model.safetensors").unlink()
    assert same(load_classifier(str(vit)), "vit")
    (vit / "other-name.safetensors").unlink()
    with pytest.raises(UnfitError, match=r"is incomplete\n.*names other-name\.safetensors, which is not there"):
        load_classifier(str(vit))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
@pytest.mark.parametrize("pickle", [False, True])
def test_what_a_wrapper_put_before_the_names_of_weights_is_taken_off(folder, prefix, pickle):
    name = "cnn" if "architecture" in json.loads((folder / "config.json").read_text()) else "vit"
    weights = load_file(folder / "model.safetensors")
    save_file({prefix + key: value for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    if pickle:
        pickled(folder)
    assert same(load_classifier(str(folder)), name)


def test_the_wrapper_of_timm_in_transformers_brings_its_preprocessing(tmp_path):
    given = timm.create_model("test_resnet").pretrained_cfg
    config = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": given, "label_names": list("abcde")}
    model = TimmWrapperForImageClassification(TimmWrapperConfig.from_dict(config)).eval()
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("pre*"))
    loaded = load_classifier(str(tmp_path))
    pixels = AutoImageProcessor.from_pretrained(tmp_path)(Image.radial_gradient("L").convert("RGB"))["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(logits(loaded), model(pixels).logits)
    assert loaded.labels == tuple("abcde") and loaded.preprocessing.settings["input_size"] == [3, 160, 160]


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
@pytest.mark.parametrize("name", ["demo:cnn", "demo:vit"])
def test_a_wrapped_module_is_what_it_wraps(wrap, name):
    plain = load_classifier(name)
    module = plain.network.module
    processor = None if name == "demo:cnn" else AutoImageProcessor.from_pretrained(DEMO / "vit")
    bare = load_classifier(module, transform=processor)
    wrapped = load_classifier(wrap(module), transform=processor)
    assert wrapped.labels == bare.labels == plain.labels and wrapped.weights_hash == bare.weights_hash
    assert wrapped.preprocessing.settings == bare.preprocessing.settings
    results = [information_distance(model, "demo:vit", "digits", k=32).nats for model in (plain, wrapped)]
    assert results[0] == results[1]


class Small(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.features = norm(nn.Linear(48, 16))
        self.head = nn.Linear(16, 4)

    def forward(self, pixels):
        return self.head(torch.relu(self.features(pixels.flatten(1))))


def tiny(image):
    return (
        torch.frombuffer(bytearray(image.resize((4, 4)).tobytes()), dtype=torch.uint8).view(4, 4, 3).permute(2, 0, 1)
        / 255
    )


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_modules_whose_weights_are_computed_can_be_compared(norm):
    module = Small(norm).eval()
    module(torch.rand(2, 3, 4, 4))
    expected = module(tiny(Image.radial_gradient("L").convert("RGB"))[None])
    classifier = load_classifier(module, transform=tiny)
    torch.testing.assert_close(logits(classifier), expected.detach())
    result = information_distance(classifier, "demo:cnn", "digits", k=24)
    assert result.nats > 0 and information_distance(classifier, classifier, "digits", k=24).nats < 1e-3
    assert classifier.student(4, None)(torch.rand(1, 3, 4, 4)).shape == (1, 4)


def named(count):
    return {"id2label": {str(number): f"c{number}" for number in range(count)}}


NAFLEX = {"model_type": "siglip2", "architectures": ["Siglip2ForImageClassification"]}
REFUSED = {
    "more names than classes": (named(12), r"its weights have 10 classes, its config.json names 12"),
    "fewer names": (named(7), r"its weights have 10 classes, its config.json names 7"),
    "another width": ({"hidden_size": 16}, r"contradicts itself: .* in its weights, .* by its config.json"),
    "patches in proportion": (NAFLEX, r"takes no images of one size\nSiglip2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_configuration_that_does_not_fit_its_weights_is_told(vit, case):
    changes, text = REFUSED[case]
    settings(vit, **changes)
    with pytest.raises(UnfitError, match=text) as error:
        load_classifier(str(vit))
    assert "above report" not in str(error.value) and len(str(error.value).splitlines()) == 3


def test_classes_that_are_counted_from_one_are_the_same_classes(vit):
    names = list(load_classifier("demo:vit").labels)
    settings(vit, id2label={str(number + 1): name for number, name in enumerate(names)}, label2id={})
    assert list(load_classifier(str(vit)).labels) == names
    assert information_distance(str(vit), "demo:vit", "digits", k=32).nats < 1e-2


def test_names_from_one_that_leave_out_a_class_stay_where_they_are():
    names = {number: f"c{number}" for number in range(1, 1001)}  # of 1001 classes the first has none
    assert _from_zero(names, 1001) == names and _from_zero(names, 1000)[0] == "c1"


def test_a_first_convolution_that_sees_folded_colours_is_no_reason_to_refuse():
    """TResNet folds 4 × 4 pixels into 48 channels before its first convolution."""
    model = nn.Sequential(
        nn.PixelUnshuffle(4), nn.Conv2d(48, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    loaded = load_classifier(model, transform=lambda image: tiny(image).repeat(1, 2, 2))
    assert loaded.num_classes == 4 and type(loaded.network).__name__ == "Network"
    assert load_classifier("random:timm:tresnet_m").num_classes == 1000


def test_an_adapter_names_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "google/vit-base-patch16-224"})
    )
    save_file({"lora": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UnfitError, match=r"is an adapter\nit changes google/vit-base-patch16-224, and has no weights"):
        load_classifier(str(tmp_path))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_models_for_greys_see_greys_and_others_are_told_how_many_channels_they_take(channels, tmp_path, caplog):
    model = timm.create_model("test_resnet", in_chans=channels, num_classes=5).eval()
    timm.models.save_for_hf(
        model, tmp_path, model_args={"in_chans": channels, "num_classes": 5}, safe_serialization=True
    )
    if channels != 1:
        with pytest.raises(UnfitError, match=rf"does not take RGB images\nit takes images of {channels} channels"):
            load_classifier(str(tmp_path))
        return
    loaded = load_classifier(str(tmp_path))
    colours = Image.merge(
        "RGB", [Image.radial_gradient("L"), Image.linear_gradient("L"), Image.new("L", (256, 256), 9)]
    )
    grey, seen = colours.convert("L").convert("RGB"), loaded.preprocessing.transform(colours)
    assert torch.equal(seen, loaded.preprocessing.transform(grey)) and torch.equal(seen[0], seen[2])
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(seen[None]), model(seen[None, :1]))
    result = information_distance(loaded, "demo:cnn", "digits", k=24)
    assert result.nats > 0
    twin = copy.deepcopy(loaded.network)
    assert torch.equal(twin(seen[None]), loaded.network(seen[None]))
