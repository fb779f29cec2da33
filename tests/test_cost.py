"""d2l_dense/cost.py against PyTorch: parameters, MACs, saved tensors, peaks."""

import numpy as np
import pytest
import torch
import torchvision
from helpers import plain_densenet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from d2l_dense import VARIANTS, DenseNet, cost, densenet
from d2l_dense.recompute import MEMORY

GMACS = {"121": 2.834, "169": 3.360, "201": 4.291, "264": 5.752, "161": 7.728}
SMALL = [  # one of each choice; odd sizes, so that rounding shows
    dict(num_channels=4, growth_rate=3, arch=(2, 1)),
    dict(num_channels=4, growth_rate=3, arch=(2, 2, 1), bottleneck=2),
    dict(num_channels=5, growth_rate=2, arch=(1, 2), compression=0.7),
    dict(num_channels=4, growth_rate=3, arch=(1, 3), bias=False),
    dict(num_channels=4, growth_rate=3, arch=(2, 1, 1), stem="cifar"),
    dict(num_channels=4, growth_rate=2, arch=(3,), bottleneck=1),
    dict(num_channels=4, growth_rate=3, arch=(2, 1), pool="max"),
]
configs = st.fixed_dictionaries(
    {},
    optional=dict(
        num_channels=st.integers(2, 40),
        growth_rate=st.integers(1, 24),
        arch=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
        num_classes=st.integers(1, 30),
        in_channels=st.integers(1, 4),
        bottleneck=st.none() | st.integers(1, 5),
        compression=st.floats(0.5, 1.0),
        bias=st.booleans(),
        stem=st.sampled_from(["imagenet", "cifar"]),
        pool=st.sampled_from(["avg", "max", "stride"]),
        memory=st.sampled_from(MEMORY),
        lr=st.floats(0.01, 1.0),
        momentum=st.floats(0.0, 0.9),
    ),
)


def built(config):
    """The network, without values."""
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(densenet, "initialize", lambda module: None)
        return DenseNet(**config)


def count_parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net, shape):
    """Half of what PyTorch's own counter sees in one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2


def saved_bytes(net, X):
    """Bytes that autograd really keeps, by the rule of `cost.summary`.

    Every storage counts once. The batch, parameters, running statistics and
    (all that has one axis) the statistics of a batch normalization do not.
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


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_equals_the_built_one(name):
    config = VARIANTS[name]
    net = built(config)
    side = 32 if config.get("stem") == "cifar" else 224
    count = cost.summary(config, (1, 3, side, side))
    parts = {part: count_parameters(stage) for part, stage in net.net.named_children()}
    assert {row.name: row.parameters for row in count.by_stage()} == parts
    assert count.parameters == count_parameters(net)
    if name in GMACS:  # the published ones pool after the convolution
        paper = cost.summary(config, (1, 3, side, side), pool_first=False)
        assert paper.parameters == count.parameters
        assert round(paper.macs / 1e9, 3) == GMACS[name]


@settings(max_examples=300)
@given(config=configs)
def test_any_network_equals_the_built_one(config):
    shape = (1, config.get("in_channels", 1), 64, 64)
    count = cost.summary(config, shape)
    assert count.parameters == count_parameters(built(config))
    for rows in (count.rows, count.by_stage()):
        for column in ("parameters", "macs", "activation_bytes"):
            assert sum(getattr(r, column) for r in rows) == getattr(count, column)


@pytest.mark.parametrize("config", [*SMALL, SMALL[0] | {"pool": "stride"}])
def test_macs_and_activation_bytes_equal_pytorchs(config):
    shape = (3, 1, 46, 38)
    count = cost.summary(config, shape)
    assert count.macs == count_macs(built(config).eval(), shape)
    assert count.activation_bytes == saved_bytes(DenseNet(**config), torch.ones(shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pool_first", [True, False])
@pytest.mark.parametrize("config", SMALL)
def test_activation_bytes_of_the_plain_form(config, pool_first, dtype):
    net = plain_densenet(**config, pool_first=pool_first).to(dtype)
    X = torch.randn(2, 1, 45, 38, dtype=dtype)
    options = {"pool_first": pool_first, "bytes_per_element": dtype.itemsize}
    count = cost.summary(config, X.shape, **options)
    assert count.activation_bytes == saved_bytes(net, X)
    assert count.parameters == count_parameters(net)


def test_activation_bytes_under_bfloat16():
    """As on a GPU: autocast also keeps a copy of each weight, not counted."""
    net, X = DenseNet(**SMALL[1]), torch.randn(2, 1, 45, 38)
    count = cost.summary(SMALL[1], X.shape, bytes_per_element=2)
    copies = 2 * sum(p.numel() for p in net.parameters() if p.dim() > 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert count.activation_bytes == saved_bytes(net, X) - copies - 2 * X.numel()


def test_macs_of_torchvisions_121():
    shape = (2, 3, 224, 224)
    with torch.device("meta"):
        theirs = torchvision.models.densenet121(weights=None).eval()
    paper = cost.summary(VARIANTS["121"], shape, pool_first=False)
    assert paper.macs == count_macs(theirs, shape)
    assert paper.parameters == count_parameters(theirs)
    ours = cost.summary(VARIANTS["121"], shape)
    assert ours.macs == count_macs(built(VARIANTS["121"]).eval(), shape)


def test_a_transition_costs_a_quarter_if_it_pools_first():
    ours, papers = (
        [row.macs for row in cost.summary({}, (1, 1, 96, 96), pool_first=first).rows]
        for first in (True, False)
    )
    different = [(a, b) for a, b in zip(ours, papers, strict=True) if a != b]
    assert len(different) == 3 and all(4 * a == b for a, b in different)


def test_activations_grow_with_the_area():
    """Chapter "Memory": 224 instead of 96 is (224 / 96)^2 = 5.44 times."""
    one, batch, large = (
        cost.summary({}, shape).activation_bytes
        for shape in ((1, 1, 96, 96), (8, 1, 96, 96), (8, 1, 224, 224))
    )
    assert batch == 8 * one and round(large / batch, 2) == 5.44
    large = np.array((256, 1, 224, 224), np.int32)  # NumPy's product would overflow
    assert cost.peak({}, large) == cost.peak({}, tuple(large.tolist()))


@pytest.mark.parametrize("name", ["121", "BC-100-12"])
def test_shapes_equal_the_built_ones(name):
    net, X, shapes = built(VARIANTS[name]), torch.empty(2, 3, 45, 38), []
    for stage in net.net:
        X = stage(X.to("meta"))
        shapes.append(tuple(X.shape[1:]))
    summary = cost.summary(VARIANTS[name], (2, 3, 45, 38))
    found = [row.shape for row in summary.by_stage()]
    assert found == [*shapes[:-1], (*shapes[-1], 1, 1)]
    num_layers = sum(VARIANTS[name]["arch"])
    assert len(summary.rows) == num_layers + len(found) - len(VARIANTS[name]["arch"])


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        ({"growth": 3}, (1, 1, 96, 96), "config key='growth': expected .*growth_rate"),
        ({"growth_rate": 0}, (1, 1, 96, 96), "growth_rate=0: expected a whole number"),
        ({"num_channels": 2.5}, (1, 1, 96, 96), "num_channels=2.5: expected a whole"),
        ({"num_classes": True}, (1, 1, 96, 96), "num_classes=True: expected a whole"),
        ({"in_channels": 0}, (1, 1, 96, 96), "in_channels=0: expected a whole number"),
        ({"bottleneck": 0}, (1, 1, 96, 96), "bottleneck=0: expected a whole number"),
        ({"arch": (4, 0)}, (1, 1, 96, 96), r"arch=\(4, 0\): expected some whole numb"),
        ({"compression": 1.5}, (1, 1, 96, 96), "compression=1.5: expected 0 < theta"),
        ({"compression": 0.001}, (1, 1, 96, 96), "transition1 .*larger compression"),
        ({"stem": "resnet"}, (1, 1, 96, 96), "stem='resnet': expected one of image"),
        ({"pool": "min"}, (1, 1, 96, 96), "pool='min': expected one of avg, max, st"),
        ({"memory": "lean"}, (1, 1, 96, 96), "memory='lean': expected one of plain, "),
        ({}, (1, 96, 96), r"input_shape=\(1, 96, 96\): expected 4 whole numbers"),
        ({}, (1, 3, 96, 96), r"input_shape=\(1, 3, .*: expected \(N, 1, H, W\)"),
        ({}, (0, 1, 96, 96), "input_shape=.*: expected 4 whole numbers of 1 or more"),
        ({}, (1, 1, 28, 96), r"transition3 makes \(120, 0, 3\); take larger images"),
    ],
)
def test_what_is_wrong_is_named(config, shape, words):
    with pytest.raises(ValueError, match=words):
        cost.peak(config, shape)
