import copy
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

from hf_infodist.errors import UnfitError
from hf_infodist.models.classifier import Network
from hf_infodist.models.heads import find_heads, logits_and_features, match_labels, replace_heads

CLASSES, NEW_CLASSES = 11, 7


def of_timm(name: str, **options) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=CLASSES, **options)


def of_torchvision(name: str, **options) -> nn.Module:
    from torchvision import models

    return models.get_model(name, num_classes=CLASSES, **options)


def of_transformers(name: str, suffix: str = "", **options) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=CLASSES, **options)
    return getattr(transformers, f"{name}ForImageClassification{suffix}")(config)


# Architecture: pixels, heads, options. The first few of each library run always, the others are slow.

TIMM = {
    "test_resnet": (64, 1, {}),
    "deit_tiny_distilled_patch16_224": (32, 2, {"img_size": 32}),
    "dla46_c": (64, 1, {}),
    "lcnet_035": (64, 1, {}),
    "test_vit": (160, 1, {}),
    "test_nfnet": (64, 1, {}),
    "test_convnext": (64, 1, {}),
    "levit_128s": (224, 2, {}),
    "levit_conv_128s": (224, 2, {}),
    "swiftformer_xs": (64, 2, {}),
    "efficientformer_l1": (224, 2, {}),
    "efficientformerv2_s0": (224, 2, {}),
    "crossvit_9_240": (240, 2, {}),
    "volo_d1_224": (64, 2, {"img_size": 64}),
    "repvit_m0_9": (64, 2, {}),
    "pit_ti_distilled_224": (224, 2, {}),
    "dpn48b": (64, 1, {}),
    "hgnetv2_b0": (64, 1, {}),
    "inception_v3": (128, 1, {}),
    "inception_next_atto": (64, 1, {}),
    "mobilenetv3_small_050": (64, 1, {}),
    "mobilevit_xxs": (64, 1, {}),
    "poolformer_s12": (64, 1, {}),
    "pvt_v2_b0": (64, 1, {}),
    "regnetx_002": (64, 1, {}),
    "repvgg_a0": (64, 1, {}),
    "ghostnet_050": (64, 1, {}),
    "tf_efficientnet_lite0": (64, 1, {}),
    "cait_xxs24_224": (64, 1, {"img_size": 64}),
    "xcit_nano_12_p16_224": (64, 1, {}),
    "gcvit_xxtiny": (64, 1, {"img_size": 64}),
    "mvitv2_tiny": (64, 1, {"img_size": 64}),
    "convit_tiny": (64, 1, {"img_size": 64}),
    "eva02_tiny_patch14_224": (56, 1, {"img_size": 56}),
    "fastvit_t8": (64, 1, {}),
    "efficientvit_b0": (64, 1, {}),
    "efficientvit_m0": (224, 1, {}),
    "mambaout_femto": (64, 1, {}),
    "densenet121": (64, 1, {}),
    "xception41": (64, 1, {}),
}

TORCHVISION = {
    "squeezenet1_1": (64, 1, {}),
    "mobilenet_v3_small": (64, 1, {}),
    "shufflenet_v2_x0_5": (64, 1, {}),
    "squeezenet1_0": (64, 1, {}),
    "inception_v3": (128, 1, {"aux_logits": False, "init_weights": True}),
    "googlenet": (64, 1, {"aux_logits": False, "init_weights": True}),
    "alexnet": (64, 1, {}),
    "convnext_tiny": (64, 1, {}),
    "densenet121": (64, 1, {}),
    "efficientnet_b0": (64, 1, {}),
    "efficientnet_v2_s": (64, 1, {}),
    "maxvit_t": (224, 1, {}),
    "mnasnet0_5": (64, 1, {}),
    "mobilenet_v2": (64, 1, {}),
    "regnet_x_400mf": (64, 1, {}),
    "regnet_y_400mf": (64, 1, {}),
    "resnet18": (64, 1, {}),
    "resnext50_32x4d": (64, 1, {}),
    "swin_t": (64, 1, {}),
    "swin_v2_t": (64, 1, {}),
    "vgg11_bn": (64, 1, {}),
    "vit_b_32": (64, 1, {"image_size": 64}),
    "wide_resnet50_2": (64, 1, {}),
}

TINY_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
TINY_SWIN = {"image_size": 64, "embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 2}
TINY_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1] * 4}
TINY_PYRAMID = {**TINY_STAGES, "image_size": 64, "num_attention_heads": [1, 1, 2, 2]}
TINY_LEVIT = {
    "image_size": 64,
    "hidden_sizes": [16, 32, 48],
    "num_attention_heads": [1, 2, 3],
    "depths": [1] * 3,
    "key_dim": [8] * 3,
}
TINY_PAIR = {"vision_config": TINY_VIT, "text_config": {**TINY_VIT, "vocab_size": 50}}
TINY_PERCEIVER = {
    "image_size": 32,
    "d_latents": 32,
    "num_latents": 8,
    "num_blocks": 1,
    "num_self_attends_per_block": 1,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1,
}

TRANSFORMERS = {
    "ViT": (32, 1, TINY_VIT),
    "DeiT/WithTeacher": (32, 2, TINY_VIT),
    "PPLCNet": (64, 1, {"scale": 0.25, "class_expand": 64}),
    "ResNet": (64, 1, {**TINY_STAGES, "embedding_size": 8}),
    "DeiT": (32, 1, TINY_VIT),
    "Beit": (32, 1, TINY_VIT),
    "Data2VecVision": (32, 1, TINY_VIT),
    "Swin": (64, 1, TINY_SWIN),
    "Swinv2": (64, 1, TINY_SWIN),
    "DonutSwin": (64, 1, TINY_SWIN),
    "ConvNext": (64, 1, TINY_STAGES),
    "ConvNextV2": (64, 1, TINY_STAGES),
    "RegNet": (64, 1, {**TINY_STAGES, "embedding_size": 8, "groups_width": 8}),
    "MobileNetV1": (64, 1, {"depth_multiplier": 0.25}),
    "MobileNetV2": (64, 1, {"depth_multiplier": 0.35}),
    "MobileViT": (64, 1, {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]}),
    "MobileViTV2": (64, 1, {"width_multiplier": 0.5}),
    "Levit": (64, 1, TINY_LEVIT),
    "Levit/WithTeacher": (64, 2, TINY_LEVIT),
    "PoolFormer": (64, 1, TINY_STAGES),
    "Pvt": (64, 1, TINY_PYRAMID),
    "PvtV2": (64, 1, TINY_PYRAMID),
    "Segformer": (64, 1, {**TINY_STAGES, "num_attention_heads": [1, 1, 2, 2]}),
    "EfficientNet": (64, 1, {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320}),
    "Bit": (64, 1, {**TINY_STAGES, "embedding_size": 8, "num_groups": 4}),
    "Cvt": (64, 1, {"embed_dim": [8, 16, 32], "num_heads": [1, 1, 2], "depth": [1, 2, 3]}),
    "FocalNet": (64, 1, {"image_size": 64, "embed_dim": 16, "depths": [1, 1], "focal_levels": [1, 1]}),
    "Dinov2": (32, 1, TINY_VIT),
    "Dinov2WithRegisters": (32, 1, TINY_VIT),
    "SwiftFormer": (64, 2, {"depths": [1] * 4, "embed_dims": [8, 16, 24, 32]}),
    "ViTMSN": (32, 1, TINY_VIT),
    "Hiera": (64, 1, {"image_size": [64, 64], "embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2]}),
    "HGNetV2": (64, 1, {}),
    "TextNet": (64, 1, {}),
    "IJepa": (32, 1, TINY_VIT),
    "Siglip": (32, 1, TINY_PAIR),
    "CLIP": (32, 1, TINY_PAIR),
    "MetaClip2": (32, 1, TINY_PAIR),
    "Perceiver/Learned": (32, 1, TINY_PERCEIVER),
}


def cases():
    for build, table, fast in (
        (of_timm, TIMM, 4),
        (of_torchvision, TORCHVISION, 3),
        (of_transformers, TRANSFORMERS, 4),
    ):
        for index, (name, (size, heads, options)) in enumerate(table.items()):
            marks = () if index < fast else pytest.mark.slow
            case = partial(build, *name.split("/"), **options), size, heads
            yield pytest.param(case, id=f"{build.__name__}-{name}", marks=marks)


class Probed(NamedTuple):
    network: Network
    example: torch.Tensor
    heads: tuple[str, ...]
    number_of_heads: int
    state_before: dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=cases())
def probed(request) -> Probed:
    build, size, number_of_heads = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(build()).eval()
        example = torch.randn(2, 3, size, size)
    before = copy.deepcopy(network.state_dict())
    return Probed(network, example, find_heads(network, example, CLASSES), number_of_heads, before)


def replaced(probed: Probed, num_classes: int, rows) -> nn.Module:
    network = copy.deepcopy(probed.network)
    replace_heads(network, probed.heads, num_classes, rows)
    return network


def test_every_head_is_found_and_probing_changes_nothing(probed):
    assert len(probed.heads) == probed.number_of_heads
    after = probed.network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in probed.state_before.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in probed.network.modules())


def test_logits_and_features_come_from_one_pass(probed):
    with torch.no_grad():
        logits, features = logits_and_features(probed.network, probed.heads, probed.example)
        assert torch.equal(logits, probed.network(probed.example))
    assert logits.shape == (2, CLASSES) and logits.isfinite().all()
    assert features.ndim == 2 and len(features) == 2 and features.isfinite().all()


def test_a_fresh_head_predicts_uniformly(probed):
    with torch.no_grad():
        logits = replaced(probed, NEW_CLASSES, None)(probed.example)
    assert torch.equal(logits, torch.zeros(2, NEW_CLASSES))


def test_a_fresh_head_learns(probed):
    network = replaced(probed, NEW_CLASSES, None)
    targets = torch.arange(2 * NEW_CLASSES).reshape(2, NEW_CLASSES).float().log1p().softmax(1)
    parameters = [p for name in probed.heads for p in network.get_submodule(name).parameters()]
    logits, features = logits_and_features(network, probed.heads, probed.example)
    step = 0.5 / (1 + features.detach().square().sum(1).max().item())  # below the inverse of the loss's curvature
    before = nn.functional.cross_entropy(logits, targets)
    before.backward()
    assert all(parameter.grad is not None for parameter in parameters)
    torch.optim.SGD(parameters, lr=step).step()
    with torch.no_grad():
        assert nn.functional.cross_entropy(network(probed.example), targets) < before


def test_rows_in_their_own_order_change_nothing(probed):
    with torch.no_grad():
        same = replaced(probed, CLASSES, range(CLASSES))(probed.example)
        assert torch.equal(same, probed.network(probed.example))


def test_rows_in_another_order_permute_the_logits(probed):
    rows = [3, 0, 2]
    with torch.no_grad():
        mapped = replaced(probed, 3, rows)(probed.example)
        torch.testing.assert_close(mapped, probed.network(probed.example)[:, rows], rtol=1e-4, atol=1e-5)


# Small cases in words


class Tokens(nn.Module):
    """A classifier whose head sees every token, and whose logits are their mean."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, pixels):
        return self.head(pixels.flatten(2).mT).mean(1)


class Quotient(nn.Module):
    """Logits that no linear layer makes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 4)

    def forward(self, pixels):
        return self.body(pixels.mean((2, 3))).softmax(1)


def test_features_of_tokens_are_their_mean():
    network, pixels = Tokens(), torch.randn(2, 3, 5, 5)
    heads = find_heads(network, pixels, 4)
    _, features = logits_and_features(network, heads, pixels)
    torch.testing.assert_close(features, pixels.mean((2, 3)))


def test_a_head_is_found_even_if_it_is_zero():
    network = Tokens()
    nn.init.zeros_(network.head.weight), nn.init.zeros_(network.head.bias)
    assert find_heads(network, torch.randn(2, 3, 5, 5), 4) == ("head",)
    assert not network.head.weight.any() and not network.head.bias.any()


def test_probabilities_are_no_logits():
    with pytest.raises(UnfitError, match="Quotient is not supported: its logits do not come from linear layers"):
        find_heads(Quotient(), torch.randn(2, 3, 5, 5), 4)


def test_fresh_rows_start_at_zero_beside_copied_ones():
    network = Tokens()
    old = network.head.weight.clone()
    replace_heads(network, ["head"], 3, [2, -1, 0])
    assert torch.equal(network.head.weight, torch.stack([old[2], torch.zeros(3), old[0]]))
    assert network.head.out_features == 3


def test_rows_must_be_one_per_class():
    with pytest.raises(ValueError, match="2 entries for 3 classes"):
        replace_heads(Tokens(), ["head"], 3, [0, 1])


def test_frozen_heads_learn_once_replaced_and_dtypes_stay():
    network = Tokens().double().requires_grad_(False)
    replace_heads(network, ["head"], 3, None)
    assert network.head.weight.requires_grad and network.head.weight.dtype == torch.float64


# Labels


@pytest.mark.parametrize(
    ("student", "teacher", "rows"),
    [
        (["cat", "dog"], ["dog", "cat"], (1, 0)),
        (["cat", "dog", "car"], ["Car", "CAT"], (2, 0)),
        (["great_white-shark", "tabby"], ["tabby", "Great  White shark"], (1, 0)),
        (["tench, Tinca tinca", "goldfish"], ["goldfish, Carassius auratus", "tench"], (1, 0)),
        (["crane", "cat", "crane"], ["cat", "crane", "crane"], (1, 0, 2)),
        (["cat", "dog"], ["crane", "crane"], None),
        (["cat", "dog"], ["cat", "dog", "car"], None),
        (["cat", "dog"], ["car", "bus"], None),
        (["LABEL_0", "LABEL_1"], ["cat", "dog"], (0, 1)),
        (["cat", "dog"], ["0", "1"], (0, 1)),
        (["cat", "dog"], ["1", "2"], (0, 1)),
        (["class_0", "class_1"], ["LABEL_0", "LABEL_1"], (0, 1)),
        ([], ["cat"], None),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["LABEL_0", "LABEL_1"], None),
        (["7", "3"], ["3", "7"], (1, 0)),  # numbers out of order are names
    ],
)
def test_labels_are_matched_by_name_then_by_position(student, teacher, rows):
    assert match_labels(student, teacher) == rows


def test_two_spellings_of_one_label_list_are_one_label_space():
    student = [f"thing {letter}" for letter in "abcdefghij"]
    assert match_labels(student, [*student[:9], "other"]) == tuple(range(10))
    assert match_labels(student, [*student[:8], "other", "another"]) is None


def test_timm_and_torchvision_mean_the_same_thousand_classes():
    from timm.data import ImageNetInfo
    from torchvision.models import ResNet18_Weights

    timm_names, torchvision_names = ImageNetInfo().label_descriptions(), ResNet18_Weights.DEFAULT.meta["categories"]
    assert match_labels(timm_names, torchvision_names) == tuple(range(1000))
    assert match_labels(torchvision_names, timm_names) == tuple(range(1000))


def test_any_part_of_imagenet_is_found_in_the_whole():
    from timm.data import ImageNetInfo

    names = ImageNetInfo().label_descriptions()
    assert match_labels(names, names[500:100:-7]) == tuple(range(500, 100, -7))


def test_the_examples_of_the_docstring_hold():
    import doctest

    from hf_infodist.models import heads

    assert doctest.testmod(heads).failed == 0
