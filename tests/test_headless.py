"""Networks without classes: read where features will do, refused where a classifier is needed."""

import json

import numpy as np
import pytest
import timm
import torch
import transformers
from networks import noise_images
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from hf_infodist import information_distance, load_classifier, rank_checkpoints
from hf_infodist.errors import UnfitError

SIZE = 32
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {**SMALL, "image_size": SIZE, "patch_size": 8}
CONV = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
TEXT = {**SMALL, "vocab_size": 50}


def clip():
    return transformers.CLIPConfig(text_config=TEXT, vision_config=VISION)


MODELS = {
    "ViTModel": lambda: transformers.ViTModel(transformers.ViTConfig(**VISION), add_pooling_layer=False),
    "DINOv2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**VISION)),
    "MAE": lambda: transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(**VISION, decoder_hidden_size=16, decoder_num_hidden_layers=1)
    ),
    "CLIP": lambda: transformers.CLIPModel(clip()),
    "CLIP vision": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION)),
    "ResNet": lambda: transformers.ResNetModel(transformers.ResNetConfig(**CONV)),
}


def save(model, folder):
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)


@pytest.fixture(params=[*MODELS, "timm"])
def folder(request, tmp_path):
    """A checkpoint of random weights, as its library saves it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if request.param == "timm":
            save_for_hf(timm.create_model("test_vit", num_classes=0), tmp_path / "model")
        else:
            save(MODELS[request.param](), tmp_path / "model")
    return str(tmp_path / "model")


def features(classifier):
    with torch.no_grad():
        pixels = torch.stack([classifier.preprocessing.transform(image) for image in noise_images(3)])
        return classifier.network(pixels)


def test_its_features_are_in_the_place_of_logits(folder):
    classifier = load_classifier(folder, headless=True)
    found = features(classifier)
    assert classifier.labels == classifier.heads == () and found.shape == (3, classifier.num_classes)
    torch.testing.assert_close(found, features(classifier), rtol=0, atol=0)  # masked autoencoders hide nothing
    assert found.std(0).max() > 1e-4
    assert classifier.weights_hash == load_classifier(folder, headless=True).weights_hash


def test_a_new_head_of_zeros_is_learnt_where_it_is_fine_tuned(folder):
    classifier = load_classifier(folder, headless=True)
    student = classifier.student(4, None)
    pixels = torch.stack([classifier.preprocessing.transform(image) for image in noise_images(2)])
    assert not student(pixels).any() and student(pixels).shape == (2, 4)


def test_it_ranks_and_is_compared_with_nothing(folder):
    images = [(image, int(np.asarray(image).mean() > 127)) for image in noise_images(40)]
    ranking = rank_checkpoints([folder, f"random:{folder}"], images, baselines=True)
    assert {one.id for one in ranking.candidates} == {folder, f"random:{folder}"}
    for one in ranking.candidates:
        assert 0 < one.nats < 40 and one.baselines["LEEP"] is one.baselines["NCE"] is None
        assert one.baselines["LogME"] is not None and one.baselines["parameters"] > 100
    with pytest.raises(UnfitError, match=r"no trained class head|has 0 classes|only computes features"):
        information_distance(folder, "demo:cnn", "digits", k=8)


def test_weights_that_are_missing_are_no_features(tmp_path):
    save(MODELS["DINOv2"](), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(dict(list(weights.items())[1:]), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnfitError, match="1 of its weights are missing"):
        load_classifier(str(tmp_path), headless=True)


def test_a_model_of_texts_has_no_image_tower(tmp_path):
    transformers.BertModel(transformers.BertConfig(**TEXT)).save_pretrained(tmp_path)
    assert "architectures" in json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(UnfitError, match="not an image classifier"):
        load_classifier(str(tmp_path), headless=True)
