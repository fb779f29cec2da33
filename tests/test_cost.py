"""cost/ against PyTorch: parameters, multiply-accumulates, saved tensors."""

import ast
import inspect
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from d2l_dense import DenseNet, cost
from experiments.resnet import ResNet

TABLE = {  # arch, num_channels, growth_rate, parameters, GMACs (facts.md)
    "121": ((6, 12, 24, 16), 64, 32, 7_978_856, 2.834),
    "169": ((6, 12, 32, 32), 64, 32, 14_149_480, 3.360),
    "201": ((6, 12, 48, 32), 64, 32, 20_013_928, 4.291),
    "264": ((6, 12, 64, 48), 64, 32, 33_337_704, 5.752),
    "161": ((6, 12, 36, 24), 96, 48, 28_681_000, 7.728),
}
CIFAR = {  # arch, num_channels, growth_rate, bottleneck, compression
    "40-12": ((12, 12, 12), 16, 12, None, 1.0),
    "100-12": ((32, 32, 32), 16, 12, None, 1.0),
    "BC-100-12": ((16, 16, 16), 24, 12, 4, 0.5),
    "BC-250-24": ((41, 41, 41), 48, 24, 4, 0.5),
    "BC-190-40": ((31, 31, 31), 80, 40, 4, 0.5),
}
SMALL = [  # one of each choice; odd sizes, so that rounding shows
    dict(num_channels=4, growth_rate=3, arch=(2, 1)),
    dict(num_channels=4, growth_rate=3, arch=(2, 2, 1), bottleneck=2),
    dict(num_channels=5, growth_rate=2, arch=(1, 2), compression=0.7),
    dict(num_channels=4, growth_rate=3, arch=(1, 3), bias=False),
    dict(num_channels=4, growth_rate=3, arch=(2, 1, 1), stem="cifar"),
    dict(num_channels=4, growth_rate=2, arch=(3,), bottleneck=1),
    dict(num_channels=4, growth_rate=3, arch=(2, 1), pool="max"),
]
# `pool` and `memory` count here even before DenseNet takes them; whatever of
# SMALL and RANDOM it takes, it is built with.
ARGUMENTS = inspect.signature(DenseNet).parameters
BUILT = [config for config in SMALL if config.keys() <= ARGUMENTS.keys()]
RANDOM = dict(
    num_channels=st.integers(2, 40),
    growth_rate=st.integers(1, 24),
    arch=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    num_classes=st.integers(1, 30),
    in_channels=st.integers(1, 4),
    bottleneck=st.none() | st.integers(1, 5),
    compression=st.floats(0.5, 1.0),
    bias=st.booleans(),
    stem=st.sampled_from(["imagenet", "cifar"]),
    pool=st.sampled_from(["avg", "max"]),
    lr=st.floats(0.01, 1.0),
    momentum=st.floats(0.0, 0.9),
)
configs = st.fixed_dictionaries(
    {}, optional={key: RANDOM[key] for key in RANDOM if key in ARGUMENTS}
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The nets are small: threads would only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def imagenet(name):
    """The configuration of one network of Table 1, as the paper counts it."""
    arch, num_channels, growth_rate, *_ = TABLE[name]
    return dict(
        num_channels=num_channels,
        growth_rate=growth_rate,
        arch=arch,
        num_classes=1000,
        in_channels=3,
        bottleneck=4,
        bias=False,
    )


def cifar(name):
    arch, num_channels, growth_rate, bottleneck, compression = CIFAR[name]
    return dict(
        num_channels=num_channels,
        growth_rate=growth_rate,
        arch=arch,
        in_channels=3,
        bottleneck=bottleneck,
        compression=compression,
        bias=False,
        stem="cifar",
    )


def count_parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net, X):
    """Half of what PyTorch's own counter sees in one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(X)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


def saved_bytes(net, X):
    """Bytes that autograd really keeps, by the rule of `cost.summary`.

    Every storage counts once. The batch, parameters, running statistics and
    (all that has one axis) the statistics of a batch normalisation do not.
    """
    known = {X.untyped_storage().data_ptr()}
    for tensor in (*net.parameters(), *net.buffers()):
        known.add(tensor.untyped_storage().data_ptr())
    kept = {}  # holding the storage, so that its address is not given again

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.dim() > 1 and storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = net(X)
    assert output.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


class PlainDense(nn.Module):
    """A dense layer in plain form, independent of the package."""

    def __init__(self, *layers):
        super().__init__()
        self.layer = nn.Sequential(*layers)

    def forward(self, X):
        return torch.cat((X, self.layer(X)), dim=1)


def plain_densenet(
    num_channels,
    growth_rate,
    arch,
    bottleneck=None,
    compression=0.5,
    bias=True,
    stem="imagenet",
    pool="avg",
    pool_first=True,
):
    """The network as the paper describes it, in one list, for 2 channels."""

    def norm(channels):
        return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]

    if stem == "cifar":
        net = [nn.Conv2d(2, num_channels, 3, padding=1, bias=bias)]
    else:
        net = [
            nn.Conv2d(2, num_channels, 7, stride=2, padding=3, bias=bias),
            nn.BatchNorm2d(num_channels),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.ReLU(inplace=True),
        ]
    c = num_channels
    for i, num_layers in enumerate(arch):
        for _ in range(num_layers):
            width, narrow = c, []
            if bottleneck is not None:
                width = bottleneck * growth_rate
                narrow = [*norm(c), nn.Conv2d(c, width, 1, bias=bias)]
            conv = nn.Conv2d(width, growth_rate, 3, padding=1, bias=bias)
            net.append(PlainDense(*narrow, *norm(width), conv))
            c += growth_rate
        if i + 1 < len(arch):
            out = int(c * compression)
            halve = nn.AvgPool2d(2) if pool == "avg" else nn.MaxPool2d(2)
            steps = [halve, nn.Conv2d(c, out, 1, bias=bias)]
            net += norm(c) + (steps if pool_first else steps[::-1])
            c = out
    net += [*norm(c), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*net, nn.Linear(c, 10))


# Parameters


def test_default_is_d2ls():
    net = cost.summary({}, (1, 1, 96, 96))
    assert net.parameters == 758_226
    no_bias = cost.summary({"bias": False}, (1, 1, 96, 96))
    assert net.parameters - no_bias.parameters == 904


@pytest.mark.parametrize("name", TABLE)
def test_table_1(name):
    *_, parameters, gmacs = TABLE[name]
    net = cost.summary(imagenet(name), (1, 3, 224, 224), pool_first=False)
    assert net.parameters == parameters
    assert round(net.macs / 1e9, 3) == gmacs
    pooled_first = cost.summary(imagenet(name), (1, 3, 224, 224))
    assert pooled_first.parameters == parameters
    assert pooled_first.macs < net.macs


def test_transition_costs_a_quarter_if_it_pools_first():
    def transitions(pool_first):
        net = cost.summary({}, (1, 1, 96, 96), pool_first=pool_first)
        return [row for row in net.rows if row.name.startswith("transition")]

    ours, papers = transitions(True), transitions(False)
    assert len(ours) == 3
    assert [4 * row.macs for row in ours] == [row.macs for row in papers]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("40-12", 1.02),
        ("100-12", 6.98),
        ("BC-250-24", 15.3),
        ("BC-190-40", 25.6),
    ],
)
def test_published_cifar_presets(name, millions):
    count = cost.summary(cifar(name), (1, 3, 32, 32)).parameters
    digits = len(str(millions).split(".")[1])
    assert round(count / 1e6, digits) == millions


def test_bc_100_12():
    net = cost.summary(cifar("BC-100-12"), (1, 3, 32, 32))
    assert net.parameters == 769_162
    assert [row.shape[0] for row in net.rows[:2]] == [24, 36]


@settings(max_examples=300)
@given(config=configs)
def test_parameters_equal_the_built_models(config):
    with torch.device("meta"):
        net = DenseNet(**config)
    shape = (1, config.get("in_channels", 1), 96, 96)
    assert cost.summary(config, shape).parameters == count_parameters(net)


@pytest.mark.parametrize("config", [imagenet("121"), cifar("BC-100-12")])
def test_every_stage_equals_the_built_models(config):
    with torch.device("meta"):
        net = DenseNet(**config)
    stages = cost.summary(config, (1, 3, 64, 64)).by_stage()
    parts = net.net.named_children()
    built = {name: count_parameters(part) for name, part in parts}
    assert {row.name: row.parameters for row in stages} == built


def test_same_arguments_and_defaults_as_densenet():
    assert ARGUMENTS.keys() <= cost.DEFAULTS.keys()
    built = {name: ARGUMENTS[name].default for name in ARGUMENTS}
    assert built == {name: cost.DEFAULTS[name] for name in ARGUMENTS}


@pytest.mark.parametrize("pool", ["avg", "max", "stride"])
def test_every_pooling_as_it_is_built(pool):
    config = dict(num_channels=8, growth_rate=4, arch=(2, 1), pool=pool)
    net, X = DenseNet(**config), torch.randn(2, 1, 42, 38)  # 11x10 to pool
    count = cost.summary(config, X.shape)
    assert count.activation_bytes == saved_bytes(net, X)
    assert count.macs == count_macs(net.eval(), X)


def test_a_pooling_that_is_none():
    with pytest.raises(ValueError, match="pool='min': expected avg, max, stride"):
        cost.summary({"pool": "min"}, (1, 1, 96, 96))


def test_arguments_that_change_nothing():
    plain = cost.summary({}, (2, 1, 96, 96))
    free = dict(lr=3, momentum=0.9, weight_decay=0.1, memory="shared")
    assert cost.summary(free, (2, 1, 96, 96)) == plain
    maximum = cost.summary({"pool": "max"}, (2, 1, 96, 96))
    assert (maximum.parameters, maximum.macs) == (plain.parameters, plain.macs)


# Closed forms


@settings(max_examples=300)
@given(
    in_channels=st.integers(1, 300),
    num_layers=st.integers(1, 60),
    growth_rate=st.integers(1, 50),
    bottleneck=st.none() | st.integers(1, 6),
    bias=st.booleans(),
)
def test_block_equals_the_sum_of_its_layers(
    in_channels, num_layers, growth_rate, bottleneck, bias
):
    options = growth_rate, bottleneck, bias
    total = 0
    for i in range(num_layers):
        read = cost.channels(in_channels, i, growth_rate)
        total += cost.block_parameters(read, 1, *options)
    assert cost.block_parameters(in_channels, num_layers, *options) == total


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bottleneck", [None, 1, 4])
def test_layer_equals_the_built_one(bottleneck, bias):
    c, k, m = 7, 3, 3 * (bottleneck or 0)
    narrow = [nn.BatchNorm2d(c), nn.Conv2d(c, m, 1, bias=bias)] if m else []
    layer = nn.Sequential(
        *narrow, nn.BatchNorm2d(m or c), nn.Conv2d(m or c, k, 3, bias=bias)
    )
    count = cost.block_parameters(c, 1, k, bottleneck, bias)
    assert count == count_parameters(layer)


def test_chapters_block():
    """D2L's example: 3 channels in, 2 layers of 10, 23 channels out."""
    assert [cost.channels(3, i, 10) for i in range(3)] == [3, 13, 23]
    assert cost.block_parameters(3, 1, 10) == 2 * 3 + 9 * 3 * 10 + 10
    assert cost.block_parameters(3, 2, 10) == 286 + 1206


# Multiply-accumulates


@pytest.mark.parametrize("config", BUILT)
def test_macs_equal_pytorchs_count(config):
    with torch.device("meta"):
        net, X = DenseNet(**config).eval(), torch.empty(3, 1, 45, 38)
    assert cost.summary(config, X.shape).macs == count_macs(net, X)


def test_macs_of_our_121_and_torchvisions():
    config = imagenet("121")
    with torch.device("meta"):
        ours = DenseNet(**config).eval()
        theirs = torchvision.models.densenet121().eval()
        X = torch.empty(2, 3, 224, 224)
    assert cost.summary(config, X.shape).macs == count_macs(ours, X)
    paper = cost.summary(config, X.shape, pool_first=False)
    assert paper.macs == count_macs(theirs, X)
    assert paper.parameters == count_parameters(theirs)


# Activations


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize("config", SMALL)
def test_activation_bytes_equal_autograds(config, pool_first, dtype):
    net = plain_densenet(**config, pool_first=pool_first).to(dtype)
    X = torch.randn(2, 2, 45, 38, dtype=dtype)
    count = cost.summary(
        {**config, "in_channels": 2},
        X.shape,
        pool_first=pool_first,
        bytes_per_element=dtype.itemsize,
    )
    assert count.activation_bytes == saved_bytes(net, X)
    assert count.parameters == count_parameters(net)


@pytest.mark.parametrize("config", BUILT)
def test_activation_bytes_of_the_package(config):
    net, X = DenseNet(**config), torch.randn(2, 1, 45, 38)
    count = cost.summary(config, X.shape)
    assert count.activation_bytes == saved_bytes(net, X)


def test_activation_bytes_under_bfloat16():
    """As on a GPU: autocast also keeps a copy of each weight, not counted."""
    net, X = plain_densenet(**SMALL[1]), torch.randn(2, 2, 45, 38)
    config = {**SMALL[1], "in_channels": 2}
    count = cost.summary(config, X.shape, bytes_per_element=2)
    convolutions = [p.numel() for p in net.parameters() if p.dim() > 1]
    with torch.autocast("cpu", torch.bfloat16):
        kept = saved_bytes(net, X)
    batch = 2 * X.numel()
    assert count.activation_bytes == kept - 2 * sum(convolutions) - batch


def test_activations_grow_with_the_area():
    """Chapter "Memory": 224 instead of 96 is (224 / 96)^2 = 5.44 times."""
    one = cost.summary({}, (1, 1, 96, 96)).activation_bytes
    batch = cost.summary({}, (8, 1, 96, 96)).activation_bytes
    large = cost.summary({}, (8, 1, 224, 224)).activation_bytes
    assert batch == 8 * one
    assert round(large / batch, 2) == 5.44


# Rows


def test_rows_add_up():
    net = cost.summary({}, (2, 1, 96, 96))
    names = [row.name for row in net.by_stage()]
    assert names == [
        "stem",
        "block1",
        "transition1",
        "block2",
        "transition2",
        "block3",
        "transition3",
        "block4",
        "head",
    ]
    for rows in (net.rows, net.by_stage()):
        assert sum(row.parameters for row in rows) == net.parameters
        assert sum(row.macs for row in rows) == net.macs
        kept = [row.activation_bytes for row in rows]
        assert sum(kept) == net.activation_bytes
    assert len(net.rows) == 1 + 16 + 3 + 1


@pytest.mark.parametrize("config", [imagenet("121"), cifar("BC-100-12")])
def test_shapes_equal_the_built_models(config):
    with torch.device("meta"):
        net, X = DenseNet(**config), torch.empty(2, 3, 45, 38)
        built = []
        for stage in net.net:
            X = stage(X)
            built.append(tuple(X.shape[1:]))
    stages = cost.summary(config, (2, 3, 45, 38)).by_stage()
    assert [row.shape for row in stages[:-1]] == built[:-1]
    assert stages[-1].shape == (*built[-1], 1, 1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"growth": 3}, "config key='growth': expected .*growth_rate"),
        ({"growth_rate": 0}, "growth_rate=0: expected a whole number"),
        ({"num_channels": 2.5}, "num_channels=2.5: expected a whole number"),
        ({"num_classes": True}, "num_classes=True: expected a whole number"),
        ({"in_channels": 0}, "in_channels=0: expected a whole number"),
        ({"bottleneck": 0}, "bottleneck=0: expected a whole number"),
        ({"arch": ()}, r"arch=\(\): expected the number of layers"),
        ({"arch": 4}, "arch=4: expected the number of layers"),
        ({"arch": (4, 0)}, r"arch\[1\]=0: expected a whole number"),
        ({"compression": 0}, "compression=0: expected 0 < theta <= 1"),
        ({"compression": 1.5}, "compression=1.5: expected 0 < theta <= 1"),
        ({"compression": 0.001}, "transition1=.*larger .*compression"),
        ({"stem": "resnet"}, "stem='resnet': expected imagenet or cifar"),
    ],
)
def test_bad_config(config, words):
    channels = config.get("in_channels", 1)
    with pytest.raises(ValueError, match=words):
        cost.summary(config, (1, channels, 96, 96))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 96, 96), r"input_shape=\(1, 96, 96\): expected \(N, 1, H, W\)"),
        ((1, 3, 96, 96), r"input_shape=\(1, 3, .*: expected \(N, 1, H, W\)"),
        ((0, 1, 96, 96), "N=0: expected a whole number"),
        ((1, 1, 96.0, 96), "H=96.0: expected a whole number"),
        ((1, 1, 28, 96), r"transition3=\(120, 0, 3\): expected .*input_shape"),
        ((1, 1, 96, 4), r"transition1=\(96, 12, 0\): expected .*input_shape"),
    ],
)
def test_bad_input_shape(shape, words):
    with pytest.raises(ValueError, match=words):
        cost.summary({}, shape)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cost.summary({}, 96), r"input_shape=96: expected \(N, 1, H, W\)"),
        (lambda: cost.summary(121, (1, 3, 96, 96)), "config=121: expected arguments"),
        (lambda: cost.peak("121", (1, 3, 96, 96)), "config='121': expected arguments"),
        (lambda: cost.resnet(18, 96), "input_shape=96: expected"),
        (lambda: cost.largest_batch({}, (1, 96, 96), "8GB"), "budget='8GB': expected"),
        (lambda: cost.largest_batch({}, (1, 96, 96), True), "budget=True: expected"),
        (lambda: cost.largest_batch({}, 96, 8e9), r"image_shape=96: .* \(C, H, W\)"),
    ],
)
def test_what_is_no_shape_config_or_number(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_other_bad_input():
    with pytest.raises(ValueError, match="bytes_per_element=0: expected"):
        cost.summary({}, (1, 1, 96, 96), bytes_per_element=0)
    with pytest.raises(ValueError, match="num_layers=0: expected"):
        cost.block_parameters(3, 0, 10)
    with pytest.raises(ValueError, match="bottleneck=0: expected"):
        cost.block_parameters(3, 1, 10, 0)


def test_standard_library_only():
    """A student's calculator: it imports nothing that has to be installed."""
    modules = set()
    for path in Path(cost.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    others = {name for name in modules if not name.startswith("d2l_dense.cost.")}
    assert others and others <= sys.stdlib_module_names | {"collections.abc"}


# ResNets

PUBLISHED = {  # torchvision's page
    18: 11_689_512,
    34: 21_797_672,
    50: 25_557_032,
    101: 44_549_160,
    152: 60_192_808,
}


@pytest.mark.parametrize("depth", cost.RESNETS)
def test_resnets_are_torchvisions(depth):
    with torch.device("meta"):
        net, X = (
            getattr(torchvision.models, f"resnet{depth}")(),
            torch.empty(2, 3, 224, 200),
        )
    count = cost.resnet(depth, X.shape)
    assert count.parameters == count_parameters(net) == PUBLISHED[depth]
    assert count.macs == count_macs(net.eval(), X)
    assert count.by_stage()[4].shape[1:] == (7, 7)


@pytest.mark.parametrize("depth", [18, 50])
def test_a_resnets_activation_bytes_equal_autograds(depth):
    net = getattr(torchvision.models, f"resnet{depth}")()
    X = torch.randn(2, 3, 45, 38)
    assert cost.resnet(depth, X.shape).activation_bytes == saved_bytes(net, X)


@settings(max_examples=30)
@given(widths=st.lists(st.integers(1, 40), min_size=4, max_size=4))
def test_a_resnet_of_any_widths(widths):
    with torch.device("meta"):
        net, X = ResNet(widths).eval(), torch.empty(1, 1, 33, 64)
    count = cost.resnet(18, X.shape, widths=widths, num_classes=10)
    assert count.parameters == count_parameters(net)
    assert count.macs == count_macs(net, X)


def test_bad_input_of_a_resnet():
    with pytest.raises(ValueError, match="depth=20: expected one of 18, 34, 50"):
        cost.resnet(20, (1, 3, 224, 224))
    with pytest.raises(ValueError, match="widths=.*expected the channels of four"):
        cost.resnet(18, (1, 3, 224, 224), widths=(64, 128))
    with pytest.raises(ValueError, match=r"widths\[1\]=0: expected a whole"):
        cost.resnet(18, (1, 3, 224, 224), widths=(64, 0, 8, 8))
    with pytest.raises(ValueError, match="input_shape=.*expected"):
        cost.resnet(18, (3, 224, 224))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"compression": "half"}, "compression='half'"),
        ({"compression": True}, "compression=True"),
        ({"arch": "44"}, "arch='44'"),
        ({"bias": 2}, "bias=2: expected True or False"),
    ],
)
def test_arguments_of_another_type(change, words):
    with pytest.raises(ValueError, match=words):
        cost.summary(change, (1, 1, 96, 96))


def test_budgets_and_states_that_cannot_be():
    with pytest.raises(ValueError, match="budget=inf: expected a number of bytes"):
        cost.largest_batch({}, (1, 96, 96), float("inf"))
    with pytest.raises(ValueError, match="states=-5: expected 0, 1 or 2"):
        cost.peak({}, (1, 1, 96, 96), states=-5)
