"""d2l_dense/densenet.py: the whole network."""

import math

import pytest
import torch
import torchvision
from helpers import Pictures, assert_same_training
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from d2l_dense import DenseNet

SMALL = {"num_channels": 6, "growth_rate": 3, "arch": (2, 1, 2), "num_classes": 4}


class PlainDenseBlock(nn.Module):
    """A dense block as Dive into Deep Learning writes it."""

    def __init__(self, in_channels, num_layers, growth_rate):
        super().__init__()
        self.net = nn.Sequential()
        for i in range(num_layers):
            channels = in_channels + i * growth_rate
            conv = nn.Conv2d(channels, growth_rate, kernel_size=3, padding=1)
            self.net.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), conv))

    def forward(self, X):
        for layer in self.net:
            Y = layer(X)
            X = torch.cat((X, Y), dim=1)
        return X


def plain_densenet(num_channels=64, growth_rate=32, arch=(4, 4, 4, 4), num_classes=10):
    """The network of Dive into Deep Learning, section 8.7, in torch.nn's parts."""
    net = nn.Sequential(
        nn.Conv2d(1, num_channels, kernel_size=7, stride=2, padding=3),
        nn.BatchNorm2d(num_channels),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    channels = num_channels
    for i, num_layers in enumerate(arch):
        net.append(PlainDenseBlock(channels, num_layers, growth_rate))
        channels += num_layers * growth_rate
        if i < len(arch) - 1:
            net.append(
                nn.Sequential(
                    nn.BatchNorm2d(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels // 2, kernel_size=1),
                    nn.AvgPool2d(kernel_size=2, stride=2),
                )
            )
            channels //= 2
    net.extend([nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1))])
    return net.extend([nn.Flatten(), nn.Linear(channels, num_classes)])


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_the_default_has_the_parameters_of_d2l():
    assert count(DenseNet()) == count(plain_densenet()) == 758_226


def test_every_stage_at_96x96():
    X, shapes = torch.randn(2, 1, 96, 96), {}
    with torch.no_grad():
        for name, stage in DenseNet().net.named_children():
            X = stage(X)
            shapes[name] = tuple(X.shape[1:])
    assert shapes == {
        "stem": (64, 24, 24),
        "block1": (192, 24, 24),
        "transition1": (96, 12, 12),
        "block2": (224, 12, 12),
        "transition2": (112, 6, 6),
        "block3": (240, 6, 6),
        "transition3": (120, 3, 3),
        "block4": (248, 3, 3),
        "head": (10,),
    }


def test_training_equals_the_plain_form():
    sizes = {"num_channels": 8, "growth_rate": 4, "arch": (2, 3, 1), "num_classes": 5}
    net, plain = DenseNet(**sizes), plain_densenet(**sizes)
    assert_same_training(net, plain, (6, 1, 34, 32))


def test_the_stem_equals_relu_before_pooling():
    stem = DenseNet(num_channels=5).net.stem
    conv = nn.Conv2d(1, 5, kernel_size=7, stride=2, padding=3)
    pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    paper = nn.Sequential(conv, nn.BatchNorm2d(5), nn.ReLU(), pool)
    assert_same_training(stem, paper, (4, 1, 17, 20))


def test_training_equals_torchvision():
    net = DenseNet(8, 4, (2, 3), num_classes=5, in_channels=3, bottleneck=2, bias=False)
    theirs = torchvision.models.DenseNet(
        growth_rate=4,
        block_config=(2, 3),
        num_init_features=8,
        bn_size=2,
        num_classes=5,
    )
    assert_same_training(net, theirs, (4, 3, 32, 32))


def conv_bias_gradients(net, X):
    """Gradients of convolution biases, relative to the largest of all."""
    net.zero_grad()
    y = torch.arange(len(X)) % 10
    nn.functional.cross_entropy(net(X), y).backward()
    largest = max(p.grad.abs().max() for p in net.parameters())
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    return torch.cat([conv.bias.grad for conv in convs]) / largest


def test_convolution_biases_learn_nothing_in_training():
    torch.manual_seed(0)
    net = DenseNet().double()
    X = torch.randn(4, 1, 64, 64, dtype=torch.float64)
    gradients = conv_bias_gradients(net.train(), X)
    assert len(gradients) == 904
    assert gradients.abs().max() < 1e-12
    # With fixed statistics the bias does reach the loss.
    assert conv_bias_gradients(net.eval(), X).abs().max() > 1e-3


@pytest.mark.parametrize("bottleneck", [None, 4])
def test_weights_start_from_he(bottleneck):
    torch.manual_seed(0)
    checked = 0
    for module in DenseNet(bottleneck=bottleneck).modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            he = math.sqrt(2 / fan_in)
            error = 5 / math.sqrt(2 * module.weight.numel())  # five sigmas
            assert module.weight.std().item() == pytest.approx(he, rel=error)
            assert abs(module.weight.mean().item()) < he * error * 2
            assert not module.bias.any()
            checked += 1
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()
        elif isinstance(module, nn.Linear):
            assert not module.bias.any() and module.weight.std() > 0
    assert checked == 1 + 16 * (2 if bottleneck else 1) + 3


def test_the_seed_decides_the_weights():
    def stem(seed):
        torch.manual_seed(seed)
        return DenseNet(**SMALL).net.stem[0].weight

    assert torch.equal(stem(1), stem(1)) and not torch.equal(stem(1), stem(2))


@settings(max_examples=15)
@given(
    st.integers(1, 4),
    st.lists(st.integers(1, 2), min_size=1, max_size=3),
    st.none() | st.integers(1, 2),
    st.sampled_from([0.5, 0.7, 1.0]),
    st.sampled_from(["imagenet", "cifar"]),
)
def test_any_network_trains(growth_rate, arch, bottleneck, compression, stem):
    more = {"bottleneck": bottleneck, "compression": compression, "stem": stem}
    net = DenseNet(4, growth_rate, arch, num_classes=3, in_channels=2, **more)
    Y = net(torch.randn(3, 2, 32, 33))
    Y.square().sum().backward()
    assert Y.shape == (3, 3) and Y.isfinite().all()
    assert all(p.grad is not None for p in net.parameters())
    channels = 4
    for i, num_layers in enumerate(arch, start=1):
        channels += num_layers * growth_rate
        if i < len(arch):
            channels = int(channels * compression)
            assert net.net[2 * i][3].out_channels == channels


def test_the_optimizer_is_what_was_asked_for():
    net = DenseNet(**SMALL, lr=0.2, momentum=0.9, weight_decay=1e-4)
    optimizer = net.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.2, 0.9, 1e-4)
    assert group["nesterov"] and len(group["params"]) == len(list(net.parameters()))
    plain = DenseNet(**SMALL).configure_optimizers().param_groups[0]
    assert not plain["nesterov"] and plain["momentum"] == 0 and plain["lr"] == 0.1


def test_steps_report_loss_and_accuracy():
    net, seen = DenseNet(**SMALL).eval(), []
    net.plot = lambda key, value, train: seen.append((key, train, value.item()))
    data = Pictures(n=4, size=32, num_classes=4)
    loss = net.training_step((data.X, data.y))
    net.validation_step((data.X, data.y))
    expected = nn.functional.cross_entropy(net.net(data.X), data.y).item()
    right = (net.net(data.X).argmax(1) == data.y).float().mean().item()
    assert loss.item() == pytest.approx(expected)
    assert [entry[:2] for entry in seen] == [
        ("loss", True), ("acc", True), ("loss", False), ("acc", False)
    ]  # fmt: skip
    assert [entry[2] for entry in seen] == pytest.approx([expected, right] * 2)


@settings(max_examples=60)
@given(
    st.sampled_from(
        ["num_channels", "growth_rate", "num_classes", "in_channels", "bottleneck"]
    ),
    st.one_of(
        st.integers(max_value=0),
        st.booleans(),
        st.floats(),
        st.sampled_from(["8", (8,), [8]]),
    ),
)
def test_a_wrong_count_is_named(name, value):
    with pytest.raises(ValueError, match="expected a whole number, 1 or more") as error:
        DenseNet(**{**SMALL, name: value})
    assert f"{name}={value!r}" in str(error.value)


nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    "name, values, allowed",
    [
        ("compression", [0, -0.5, 1.1, 2, nan, "half", None], r"0 < theta <= 1"),
        ("lr", [0, -0.1, nan, inf, "0.1", None], "above 0"),
        ("momentum", [-0.1, 1, 1.5, nan, "0.9", None], "0 <= momentum < 1"),
        ("weight_decay", [-1e-4, nan, inf, "1e-4", None], "0 or more"),
        ("arch", [(), [], "4444", 4, None, (4, 0), (4, 2.0), ("4",)], "number of lay"),
        ("stem", ["resnet", "", None, 3], "expected one of imagenet, cifar"),
    ],
)
def test_a_wrong_argument_is_named(name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=allowed) as error:
            DenseNet(**{**SMALL, name: value})
        assert f"{name}={value!r}" in str(error.value)


def test_a_compression_that_leaves_no_channel():
    with pytest.raises(ValueError, match=r"^compression=0.01: .*12 channels"):
        DenseNet(**SMALL, compression=0.01)
