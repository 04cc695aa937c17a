"""The embedded checkpoints are small, load with their own libraries, and recognise digits they never saw."""

from pathlib import Path

import pytest
import torch

from hf_infodist.models import demo
from hf_infodist.models.demo.train import (
    NAMES,
    Recipe,
    accuracy,
    digit_images,
    main,
    split,
    timm_transform,
    train_cnn,
)

FOLDER = Path(demo.__file__).parent
CNN, VIT = FOLDER / "cnn", FOLDER / "vit"


def load_cnn():
    import timm

    return timm.create_model(f"local-dir:{CNN}", pretrained=True).eval()


def load_vit():
    from transformers import AutoModelForImageClassification

    return AutoModelForImageClassification.from_pretrained(VIT).eval()


@pytest.fixture(scope="module")
def held_out():
    images, labels = digit_images()
    _, chosen = split(len(images), seed=0)
    return [images[index] for index in chosen], labels[chosen]


def test_both_checkpoints_take_less_than_a_megabyte():
    files = [file for folder in (CNN, VIT) for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    assert {file.suffix for file in files} == {".json", ".md", ".safetensors"}


def test_training_and_held_out_digits_are_disjoint_and_complete():
    train, held_out = split(1797, seed=0)
    assert len(train) == 1000
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(1797))


def test_digits_are_rgb_images_that_use_the_whole_range(held_out):
    images, labels = held_out
    assert {(image.size, image.mode) for image in images} == {((8, 8), "RGB")}
    assert {image.getextrema()[0] for image in images} >= {(0, 255)}
    assert set(labels.tolist()) == set(range(10))


def test_cnn_loads_with_timm_and_recognises_held_out_digits(held_out):
    images, labels = held_out
    model = load_cnn()
    pixels = torch.stack([timm_transform(model)(image) for image in images])
    assert pixels.shape[1:] == (3, 32, 32)
    assert accuracy(model, pixels, labels) >= 0.93


def test_vit_loads_with_transformers_and_recognises_held_out_digits(held_out):
    from transformers import AutoImageProcessor

    images, labels = held_out
    pixels = AutoImageProcessor.from_pretrained(VIT)(images, return_tensors="pt")["pixel_values"]
    assert pixels.shape[1:] == (3, 32, 32)
    assert accuracy(load_vit(), pixels, labels) >= 0.93


def test_both_checkpoints_name_their_classes_alike():
    assert tuple(load_cnn().pretrained_cfg["label_names"]) == NAMES
    assert tuple(load_vit().config.id2label[index] for index in range(10)) == NAMES


def test_cnn_has_batch_norm_and_vit_has_not():
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in load_cnn().modules())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in load_vit().modules())


@pytest.mark.parametrize("folder", [CNN, VIT])
def test_cards_state_licence_and_accuracy(folder):
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert "**Accuracy**: 9" in card


def test_script_writes_the_layout_that_is_embedded(tmp_path):
    main(tmp_path, epochs=(1, 1))
    for name in ("cnn", "vit"):
        written = {file.name for file in (tmp_path / name).iterdir()}
        assert written == {file.name for file in (FOLDER / name).iterdir()}


def test_same_seed_gives_same_weights(tmp_path):
    for run in ("first", "second"):
        train_cnn(tmp_path / run, Recipe(epochs=1, rate=5e-3))
    first, second = (tmp_path / run / "model.safetensors" for run in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
