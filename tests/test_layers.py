"""Features of all layers: which are read, what is read of them, of every architecture that can be loaded."""

import copy

import torch
from networks import SmallNet, noise_images, permuted, transform
from test_heads import Probed, probed  # noqa: F401  the fixture
from torch import nn

from hf_infodist.models.heads import find_heads, logits_and_features
from hf_infodist.outputs.layers import MOST_LAYERS, MOST_VALUES, Layer, choose_layers, parts_of, reading

PIXELS = torch.stack([transform(image) for image in noise_images(6)]).double()


def read(network, layers, pixels):
    with torch.no_grad(), reading(network, layers, len(pixels)) as values:
        network(pixels)
        return values()


def chosen(network, pixels=PIXELS):
    return choose_layers(network, find_heads(network, pixels[:2], 5), pixels)


def test_layers_with_weights_are_read_but_heads_and_what_a_norm_takes_at_once():
    assert [layer.name for layer in chosen(SmallNet())] == ["conv1", "conv2", "hidden"]
    assert [layer.name for layer in chosen(SmallNet(batchnorm=True))] == ["norm", "conv2", "hidden"]


def test_what_is_read_are_averages_over_parts_of_the_map():
    net = SmallNet()
    conv1, conv2, hidden = chosen(net)
    assert (conv1, conv2, hidden) == (Layer("conv1", 8, 8), Layer("conv2", 10, 4), Layer("hidden", 12, 1))
    values = read(net, [conv2], PIXELS)
    maps = net.conv2(net.norm(net.conv1(PIXELS)).relu()).detach()  # [6, 10, 6, 6]
    grid = values.view(6, 10, 4, 4)
    assert torch.allclose(grid[:, :, 0, 0], maps[:, :, :2, :2].mean((2, 3)))
    coarse, half, fine = parts_of(values, conv2)
    assert torch.allclose(coarse, grid.mean((2, 3))) and torch.equal(fine, values)
    assert torch.allclose(half.view(6, 10, 2, 2)[:, :, 1, 0], grid[:, :, 2:, :2].mean((2, 3)))


def test_permuted_units_are_the_same_numbers_in_another_order():
    net = SmallNet(batchnorm=True)
    twin = permuted(net)
    for layer in chosen(net):
        values, others = (read(each, [layer], PIXELS).view(6, layer.channels, -1) for each in (net, twin))
        assert torch.allclose(values.sort(1).values, others.sort(1).values, atol=1e-12)
        assert not torch.allclose(values, others)


def test_the_number_of_layers_and_of_values_is_bounded():
    deep = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(40)), nn.Flatten(), nn.LazyLinear(5))
    layers = chosen(deep, torch.randn(2, 3, 16, 16))
    assert len(layers) == MOST_LAYERS
    assert (layers[0].name, layers[-1].name) == ("0", "39")
    assert all(layer.values <= MOST_VALUES for layer in layers)


class Windowed(nn.Module):
    """Cuts images into windows, as Swin does, or mixes images, as nobody should."""

    def __init__(self, mixing=False):
        super().__init__()
        self.mixing = mixing
        self.inner, self.head = nn.Linear(3, 7), nn.Linear(7, 5)

    def forward(self, x):
        windows = x.unflatten(3, (2, -1)).movedim(3, 1).flatten(0, 1).movedim(1, -1)  # [2 N, H, W / 2, 3]
        inner = self.inner(windows - windows.mean(0) if self.mixing else windows)
        return self.head(inner.unflatten(0, (len(x), 2)).mean((1, 2, 3)))


def test_windows_of_an_image_are_put_together():
    net = Windowed().double()
    (layer,) = chosen(net)
    assert layer == Layer("inner", 7, 1)
    expected = net.inner(PIXELS.movedim(1, -1)).mean((1, 2))
    assert torch.allclose(read(net, [layer], PIXELS), expected)


def test_what_depends_on_the_images_beside_is_not_read():
    assert chosen(Windowed(mixing=True).double()) == ()


class Tokens(nn.Module):
    """A class token, then a square of 16 tokens."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.head = nn.Conv2d(3, 6, 3, 3), nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(torch.cat([tokens.sum(1, keepdim=True), tokens], 1))[:, 0])


def test_tokens_are_a_map_after_the_class_token():
    net = Tokens().double()
    patch, norm = chosen(net)
    assert (patch.grid, norm.grid) == (4, 4)
    tokens = net.norm(net.patch(PIXELS).movedim(1, -1)).detach()  # [6, 4, 4, 6]
    assert torch.allclose(read(net, [norm], PIXELS).view(6, 6, 4, 4), tokens.movedim(-1, 1))


@torch.no_grad()
def test_every_architecture_is_read_in_the_pass_that_makes_the_logits(probed: Probed):  # noqa: F811
    network, example = probed.network, probed.example
    layers = choose_layers(network, probed.heads, example)
    assert 3 <= len(layers) <= MOST_LAYERS and not {layer.name for layer in layers} & set(probed.heads)
    with reading(network, layers, 2) as values:
        logits, _ = logits_and_features(network, probed.heads, example)
    found = values()
    assert torch.equal(logits, network(example))
    assert found.shape == (2, sum(layer.values for layer in layers)) and found.isfinite().all()
    alone = read(network, layers, example[1:])
    scale = found[1].abs().max()
    assert (alone[0] - found[1]).abs().max() < 1e-3 * scale
    assert not any(module._forward_hooks for module in network.modules())


@torch.no_grad()
def test_units_are_the_channels_of_each_layer(probed: Probed):  # noqa: F811
    """Shifting the bias of one unit moves the averages of that unit alone."""
    for layer in choose_layers(probed.network, probed.heads, probed.example):
        network = copy.deepcopy(probed.network)
        module = network.get_submodule(layer.name)
        if getattr(module, "bias", None) is None or len(module.bias) != layer.channels:
            continue
        before = read(network, [layer], probed.example).view(2, layer.channels, -1)
        shift = 1 + before.abs().max() + 100 * before.std()  # beyond round-off, and into the range of a ReLU
        module.bias[0] += shift
        moved = (read(network, [layer], probed.example).view(2, layer.channels, -1) - before).abs().amax((0, 2))
        assert moved[0] > 1e-3 * shift and moved[1:].max() < 1e-5 * shift, layer
