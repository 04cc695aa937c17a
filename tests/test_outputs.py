"""Pixels, logits and features are computed once, exactly, and kept under a key that says what they are."""

import dataclasses
import threading
from io import BytesIO

import numpy as np
import pytest
import torch
from networks import SmallNet, noise_images, transform
from PIL import Image

from hf_infodist.errors import ResourceError, UnfitError
from hf_infodist.images.sample import load_images
from hf_infodist.models.load import load_classifier
from hf_infodist.outputs.arrays import StartLogits
from hf_infodist.outputs.forward import compute_outputs


def small(net=None, own_transform=transform):
    return load_classifier(net or SmallNet(), transform=own_transform)


@pytest.fixture
def images():
    return load_images(noise_images(20))


@pytest.mark.parametrize(
    "name", ["random:timm:test_resnet.r160_in1k", "random:torchvision:mobilenet_v3_small", "demo:vit"]
)
def test_eight_bit_pixels_lose_nothing(images, name):
    classifier = load_classifier(name)
    outputs = compute_outputs(classifier, images)
    assert outputs.pixels.values.dtype == np.uint8
    direct = torch.stack([classifier.preprocessing.transform(image) for image in images])
    assert torch.allclose(outputs.pixels.batch(slice(0, 20), "cpu", torch.float32), direct, atol=3e-6)


def test_values_between_two_steps_are_kept_as_float(images):
    outputs = compute_outputs(small(own_transform=lambda image: transform(image) * 0.37), images)
    assert outputs.pixels.values.dtype == np.float32
    assert np.allclose(outputs.pixels.values[3], transform(images[3]) * 0.37)


def test_outputs_are_those_of_the_model(images):
    net = SmallNet()
    outputs = compute_outputs(small(net), images, chunk=7)
    pixels = torch.stack([transform(image) for image in images]).double()
    logits, features = (torch.from_numpy(np.array(array)) for array in (outputs.logits, outputs.features))
    assert logits.dtype == torch.float64 and features.shape == (20, 12)
    with torch.no_grad():
        assert torch.allclose(logits, net(pixels), atol=1e-5)
        assert torch.allclose(net.head(features), logits, atol=1e-12)


def test_nothing_is_computed_twice(images, monkeypatch):
    classifier = small()
    first = compute_outputs(classifier, images)
    monkeypatch.setattr(type(classifier.network), "forward", lambda *_: pytest.fail("the model ran again"))
    monkeypatch.setattr(type(images), "__getitem__", lambda *_: pytest.fail("an image was decoded again"))
    assert compute_outputs(classifier, images).key == first.key


def test_key_follows_weights_images_and_preprocessing(images):
    def shifted(image):
        return transform(image) - 0.5

    keys = [
        compute_outputs(small(), images).key,
        compute_outputs(small(SmallNet(seed=1)), images).key,
        compute_outputs(small(), load_images(noise_images(20, seed=1))).key,
        compute_outputs(small(own_transform=shifted), images).key,
    ]
    assert len(set(keys)) == 4
    assert compute_outputs(small(), load_images(noise_images(20))).key == keys[0]


def test_logits_that_are_not_finite_name_the_image(images):
    class Dividing(SmallNet):
        def forward(self, x):
            bright = x.mean((1, 2, 3)) > 0.9
            return super().forward(x) / (1 - bright.to(x.dtype))[:, None]

    pictures = list(images)
    pictures[13] = pictures[13].point(lambda _: 255)
    sample = load_images(pictures)
    row = next(i for i in range(20) if np.asarray(sample[i]).min() == 255)
    with pytest.raises(UnfitError, match=rf"logits of image {row} .* not finite"):
        compute_outputs(small(Dividing()), sample)


def test_images_of_several_sizes_are_refused():
    pictures = noise_images(3)
    pictures[1] = pictures[1].resize((16, 16))
    to_tensor = lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255  # noqa: E731
    classifier = dataclasses.replace(small(), preprocessing=small(own_transform=to_tensor).preprocessing)
    with pytest.raises(UnfitError, match="one size"):
        compute_outputs(classifier, load_images(pictures))


def test_of_two_writers_one_wins_and_both_are_served(images):
    results, models = [], [small(), small()]
    threads = [threading.Thread(target=lambda m=m: results.append(compute_outputs(m, images))) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(results[0].logits, results[1].logits)


def test_an_interrupted_write_leaves_nothing_behind(images, store):
    broken = load_classifier(SmallNet(), transform=transform)
    with pytest.raises(RuntimeError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(images), "__getitem__", lambda *_: (_ for _ in ()).throw(RuntimeError("power cut")))
        compute_outputs(broken, images)
    assert not list((store / "outputs").iterdir())


class Hungry(SmallNet):
    """A network that cannot take many images at once."""

    most = 5

    def forward(self, x):
        if len(x) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate too much")
        return super().forward(x)


def test_too_large_a_chunk_is_halved_until_it_fits(images):
    outputs = compute_outputs(small(Hungry()), images, chunk=64)
    assert np.allclose(outputs.logits, compute_outputs(small(), images).logits, rtol=1e-9)


def test_a_model_that_never_fits_is_a_resource_error(images):
    classifier = small(Hungry())
    classifier.network.module.most = 0
    with pytest.raises(ResourceError, match="memory"):
        compute_outputs(classifier, images)


def test_start_logits_follow_rows():
    logits = np.arange(12.0).reshape(3, 4)
    assert StartLogits(logits, (2, -1, 0), 3)[:2].tolist() == [[2, 0, 0], [6, 0, 4]]
    assert StartLogits(logits, None, 5)[np.array([0, 2])].tolist() == [[0] * 5] * 2


@pytest.mark.parametrize(
    ("level", "told"), [(1, True), (255, True), (None, False)], ids=["almost black", "of one colour", "photographs"]
)
def test_a_sample_in_which_nothing_is_to_be_seen_is_told(level, told, tmp_path, caplog):
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    images = load_images(list(shown if level is None else np.full_like(shown, level)))
    compute_outputs(load_classifier("demo:cnn"), images, home=tmp_path)
    assert ("6 of 6 images of list come out almost black or of one colour" in caplog.text) is told


def test_an_image_as_long_as_a_road_is_refused_before_it_fills_the_memory(tmp_path):
    file = BytesIO()
    Image.new("RGB", (60_000, 1)).save(file, "PNG")
    assert len(file.getvalue()) < 1000
    shown = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(
        UnfitError, match=r"row 1 of list has 60000 × 1 pixels\nresized for this model it would have 61 mil"
    ):
        compute_outputs(load_classifier("demo:cnn"), load_images([shown, file.getvalue()]), home=tmp_path)


def test_a_large_scan_is_read(tmp_path, monkeypatch):
    """100 million pixels are more than Pillow reads without a warning; how many are too many can be said."""
    file = BytesIO()
    Image.new("L", (10_000, 10_000), 200).save(file, "PNG")
    shown = np.zeros((9, 9, 3), np.uint8)
    images = load_images([file.getvalue(), shown])
    outputs = compute_outputs(load_classifier("demo:cnn"), images, home=tmp_path)
    assert np.isfinite(outputs.logits).all() and sorted(image.width for image in images) == [9, 10_000]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000_000)
    with pytest.raises(UnfitError, match=r"row 0 of list cannot be read .*\n.*set INFODIST_MOST_PIXELS"):
        list(load_images([file.getvalue()]))
    monkeypatch.setenv("INFODIST_MOST_PIXELS", str(10**8))
    assert len(list(load_images([file.getvalue()]))) == 1
