import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from hf_infodist.errors import UnfitError, UsageError
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.heads import logits_and_features
from hf_infodist.models.load import load_classifier
from hf_infodist.models.names import DEMO

GREY = Image.new("RGB", (50, 40), "grey")


@pytest.fixture
def folder(request, tmp_path) -> Path:
    return Path(shutil.copytree(DEMO / request.param, tmp_path / request.param))


both_layouts = pytest.mark.parametrize("folder", ["cnn", "vit"], indirect=True)
vit_layout = pytest.mark.parametrize("folder", ["vit"], indirect=True)


def pixels_of(classifier: Classifier) -> torch.Tensor:
    return classifier.preprocessing.transform(GREY)[None]


# What loads


@pytest.mark.parametrize(
    ("name", "library", "num_classes"),
    [
        ("demo:cnn", "timm", 10),
        ("demo:vit", "transformers", 10),
        ("random:demo:vit", "transformers", 10),
        ("random:timm:test_resnet.r160_in1k", "timm", 1000),
        ("random:torchvision:squeezenet1_1", "torchvision", 1000),
        ("random:torchvision:shufflenet_v2_x0_5@IMAGENET1K_V1", "torchvision", 1000),
        pytest.param("random:torchvision:inception_v3", "torchvision", 1000, marks=pytest.mark.slow),
        pytest.param("random:torchvision:googlenet", "torchvision", 1000, marks=pytest.mark.slow),
        pytest.param(
            "random:torchvision:vit_b_16@IMAGENET1K_SWAG_E2E_V1", "torchvision", 1000, marks=pytest.mark.slow
        ),
        pytest.param("random:timm:deit_tiny_distilled_patch16_224", "timm", 1000, marks=pytest.mark.slow),
        pytest.param("random:timm:resnetv2_50x1_bit.goog_in21k", "timm", 21843, marks=pytest.mark.slow),
    ],
)
def test_a_name_is_enough(name, library, num_classes):
    classifier = load_classifier(name)
    assert (classifier.id, classifier.library, classifier.revision) == (name, library, None)
    assert classifier.num_classes == num_classes == len(set(enumerate(classifier.labels)))
    pixels = pixels_of(classifier)
    assert pixels.dtype == torch.float32 and pixels.shape[1] == 3
    with torch.no_grad():
        assert classifier.network(pixels).shape == (1, num_classes)
    assert not classifier.network.training
    settings = classifier.preprocessing.settings
    assert settings["input_size"] == list(pixels.shape[1:]) and json.loads(json.dumps(settings)) == settings


@both_layouts
def test_a_folder_keeps_its_labels_and_logits(folder):
    classifier = load_classifier(str(folder))
    assert classifier.labels[:3] == ("zero", "one", "two") and classifier.num_classes == 10
    again = load_classifier(str(folder))
    assert classifier.weights_hash == again.weights_hash
    assert classifier.preprocessing.settings == again.preprocessing.settings
    with torch.no_grad():
        assert torch.equal(classifier.network(pixels_of(classifier)), again.network(pixels_of(again)))


@vit_layout
def test_half_precision_checkpoints_are_computed_in_float32(folder):
    from transformers import ViTForImageClassification

    ViTForImageClassification.from_pretrained(folder).half().save_pretrained(folder)
    classifier = load_classifier(str(folder))
    assert {parameter.dtype for parameter in classifier.network.parameters()} == {torch.float32}


# Fresh weights


def test_a_seed_decides_fresh_weights_and_nothing_else():
    before = torch.get_rng_state()
    name = "random:timm:test_resnet"
    one, same, other = load_classifier(name), load_classifier(name, seed=0), load_classifier(name, seed=1)
    assert one.weights_hash == same.weights_hash != other.weights_hash
    assert torch.equal(torch.get_rng_state(), before)


@both_layouts
def test_fresh_weights_keep_everything_but_the_weights(folder):
    trained, fresh = load_classifier(str(folder)), load_classifier(f"random:{folder}")
    assert fresh.labels == trained.labels and fresh.heads == trained.heads
    assert fresh.preprocessing.settings == trained.preprocessing.settings
    assert fresh.weights_hash != trained.weights_hash


# Loaded modules


class Plain(nn.Module):
    def __init__(self, classes=4, scale=1.0):
        super().__init__()
        self.head, self.scale = nn.Linear(3, classes), scale

    def forward(self, pixels):
        return self.scale * self.head(pixels.mean((2, 3)))


def to_pixels(image):
    from torchvision.transforms.functional import pil_to_tensor

    return pil_to_tensor(image.resize((8, 8))).float() / 255


def test_a_plain_module_needs_a_transform():
    with pytest.raises(UsageError, match="without preprocessing"):
        load_classifier(Plain())
    classifier = load_classifier(Plain(), transform=to_pixels, labels=list("abcd"))
    assert (classifier.id, classifier.library, classifier.labels) == ("Plain", "torch", ("a", "b", "c", "d"))
    assert classifier.heads == ("module.head",) and classifier.preprocessing.settings["input_size"] == [3, 8, 8]
    assert load_classifier(classifier) is classifier


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_a_module_stays_as_it_is(dtype):
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), Plain()).train().to(dtype)
    module[0].eval().requires_grad_(False)
    before, flags = copy.deepcopy(module.state_dict()), (True, False, True, True, True)
    classifier = load_classifier(module, transform=to_pixels)
    classifier.student(3, None)(torch.rand(2, 3, 8, 8).to(torch.promote_types(dtype, torch.float32))).sum().backward()
    assert tuple(layer.training for layer in module.modules()) == flags
    assert [parameter.requires_grad for parameter in module.parameters()] == [False, False, True, True]
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
    after = module.state_dict()
    assert all(torch.equal(before[key], after[key]) and after[key].dtype == before[key].dtype for key in before)


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float64_stays_and_less_than_float32_is_widened(given):
    computed = torch.float64 if given == torch.float64 else torch.float32
    classifier = load_classifier(nn.Sequential(nn.BatchNorm2d(3), Plain()).to(given), transform=to_pixels)
    pixels = pixels_of(classifier).to(computed)
    logits, features = logits_and_features(classifier.network, classifier.heads, pixels)
    students = [classifier.student(4, range(4)), classifier.student(7, None)]
    tensors = [logits, features, *(student(pixels) for student in students), *students[1].parameters()]
    assert {tensor.dtype for tensor in tensors} == {computed}


def test_one_float64_weight_does_not_make_a_float64_network():
    module = nn.Sequential(nn.BatchNorm2d(3).double(), Plain())
    network = load_classifier(module, transform=to_pixels).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_normalisation_of_a_composed_transform_is_read():
    from torchvision import transforms

    transform = transforms.Compose([to_pixels, transforms.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))])
    preprocessing = load_classifier(Plain(), transform=transform).preprocessing
    assert preprocessing.mean == pytest.approx((0.1, 0.2, 0.3)) and preprocessing.std == pytest.approx((0.4, 0.5, 0.6))


def test_two_lambdas_that_differ_are_two_preprocessings():
    settings = [
        load_classifier(Plain(), transform=lambda image, s=s: to_pixels(image) * s).preprocessing.settings
        for s in (1, 1, 2)
    ]
    assert settings[0] == settings[1] != settings[2]


def test_a_timm_module_brings_its_preprocessing():
    import timm

    classifier = load_classifier(timm.create_model("test_resnet", num_classes=3))
    assert (classifier.library, classifier.labels[0]) == ("timm", "LABEL_0")
    assert classifier.preprocessing.settings["input_size"] == [3, 160, 160]


@vit_layout
def test_a_transformers_module_takes_an_image_processor(folder):
    from transformers import ViTForImageClassification, ViTImageProcessor

    module, processor = (cls.from_pretrained(folder) for cls in (ViTForImageClassification, ViTImageProcessor))
    classifier, named = load_classifier(module, transform=processor), load_classifier(str(folder))
    assert (classifier.library, classifier.labels) == ("transformers", named.labels)
    assert classifier.preprocessing.settings == named.preprocessing.settings
    assert (
        load_classifier(module.double(), transform=processor).network(pixels_of(named).double()).dtype == torch.float64
    )


@vit_layout
def test_a_module_without_one_distribution_over_classes_is_refused(folder):
    from transformers import ViTForImageClassification

    module = ViTForImageClassification.from_pretrained(folder, problem_type="multi_label_classification")
    with pytest.raises(UnfitError, match="not one distribution over classes"):
        load_classifier(module, transform=to_pixels)


def test_the_hash_sees_weights_and_settings_that_are_no_weights():
    plain = load_classifier(Plain(), transform=to_pixels).network.module
    twin = Plain(scale=2.0)
    twin.load_state_dict(plain.state_dict())
    one, two = (load_classifier(module, transform=to_pixels).weights_hash for module in (plain, twin))
    assert one != two
    assert one == load_classifier(plain, transform=to_pixels).weights_hash


# Students


def test_a_student_with_its_own_rows_is_the_classifier():
    classifier = load_classifier("demo:cnn")
    student, pixels = classifier.student(10, range(10)), pixels_of(classifier)
    with torch.no_grad():
        assert torch.equal(student(pixels), classifier.network(pixels))
    assert student is not classifier.network


@pytest.mark.parametrize("name", ["demo:cnn", "demo:vit"])
def test_teaching_a_student_leaves_the_classifier_as_it_is(name):
    classifier = load_classifier(name)
    before = {key: tensor.clone() for key, tensor in classifier.network.state_dict().items()}
    student, pixels = classifier.student(7, None), pixels_of(classifier)
    assert torch.equal(student(pixels), torch.zeros(1, 7))
    nn.functional.cross_entropy(student(pixels), torch.tensor([3])).backward()
    torch.optim.SGD(student.parameters(), lr=0.1).step()
    assert student(pixels).argmax() == 3
    assert all(torch.equal(before[key], tensor) for key, tensor in classifier.network.state_dict().items())


def test_students_of_frozen_modules_can_learn():
    student = load_classifier(Plain().requires_grad_(False), transform=to_pixels).student(4, range(4))
    assert all(parameter.requires_grad for parameter in student.parameters())


# What does not load


@vit_layout
def test_a_transform_replaces_a_missing_preprocessor(folder):
    (folder / "preprocessor_config.json").unlink()
    transform = nn.Sequential()  # any callable
    transform.forward = lambda image: to_pixels(image.resize((32, 32))).repeat(1, 4, 4)
    assert load_classifier(str(folder), transform=transform).preprocessing.settings["input_size"] == [3, 32, 32]


@vit_layout
def test_a_preprocessing_of_another_size_does_not_fit(folder):
    from transformers import ViTImageProcessor

    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    with pytest.raises(UnfitError, match="cannot take the images that its preprocessing makes"):
        load_classifier(str(folder))


@pytest.mark.parametrize(
    ("module", "transform", "told"),
    [
        (Plain(), lambda image: to_pixels(image)[:1], "does not take RGB images"),
        (Plain(), lambda image: image, "does not take RGB images"),
        (Plain(), lambda image: 1 / 0, "its preprocessing fails"),
        (Plain(scale=float("nan")), to_pixels, "not finite"),
        (Plain(classes=1), to_pixels, "one class carries no information"),
        (nn.Conv2d(3, 4, 1), to_pixels, "not an image classifier"),
        (nn.Conv2d(1, 4, 1), to_pixels, "not an image classifier"),
        (nn.Conv2d(4, 4, 1), to_pixels, "it takes images of 4 channels"),
        (nn.Sequential(Plain(), nn.Softmax(1)), to_pixels, "its logits do not come from linear layers"),
    ],
)
def test_modules_that_do_not_fit_are_refused(module, transform, told):
    with pytest.raises(UnfitError) as raised:
        load_classifier(module, transform=transform)
    assert told in str(raised.value)


def test_labels_must_be_one_per_class():
    with pytest.raises(UsageError, match="2 labels were given"):
        load_classifier(Plain(), transform=to_pixels, labels=["a", "b"])


@pytest.mark.parametrize("name", ["demo:cnn", "demo:vit", "random:torchvision:squeezenet1_1"])
def test_loading_is_silent(name, capfd):
    load_classifier(name)
    assert capfd.readouterr() == ("", "")
