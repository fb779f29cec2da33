"""d2l_dense/memory.py, and cost.peak against it."""

import os
from copy import deepcopy

import numpy as np
import pytest
import torch
from d2l import torch as d2l
from helpers import assert_equal_states
from torch import nn

from d2l_dense import VARIANTS, DenseNet, cost, memory
from d2l_dense.recompute import MEMORY

SMALL = dict(num_channels=16, growth_rate=8, arch=(3, 4), bottleneck=2, momentum=0.9)
TINY = dict(num_channels=8, growth_rate=4, arch=(1,))
SHORT = dict(num_channels=16, growth_rate=16, arch=(2, 2), bottleneck=4, stem="cifar")
NETWORKS = {
    "short": (SHORT, (8, 1, 64, 64)),
    "chapter": ({}, (32, 1, 96, 96)),
    "121": (VARIANTS["121"], (8, 3, 224, 224)),
    "BC-100-12": (VARIANTS["BC-100-12"], (32, 3, 32, 32)),
}
LARGE = ("121", "BC-100-12")


def batch(*shape, device="cpu"):
    torch.manual_seed(0)
    X = torch.randn(shape, device=device)
    return X, torch.zeros(shape[0], dtype=torch.long, device=device)


def measured(net, shape, **options):
    """The measured peak, channels last, as the trainer lays images out.

    Channels first, oneDNN copies what a convolution reads into a layout of its own.
    """
    X, y = batch(*shape)
    if X.dim() == 4:
        net, X = (t.to(memory_format=torch.channels_last) for t in (net, X))
    return memory.measure(net, (X, y), **options)["total"]


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.fixture
def one_thread():
    """Kernels need scratch memory by thread, which nothing estimates."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("strategy", MEMORY)
@pytest.mark.parametrize("frozen", [[], ["stem", "block1", "transition1"]])
def test_the_estimate_is_what_is_allocated(strategy, frozen, one_thread):
    net, shape = DenseNet(**SMALL, memory=strategy), (8, 1, 64, 64)
    for stage in frozen:
        net.net.get_submodule(stage).requires_grad_(False)
    found = memory.training_peak(net, shape)
    assert found["parameter"] == sum(p.nbytes for p in net.parameters())
    trained = [p for p in net.parameters() if p.requires_grad]
    assert found["optstate"] == sum(p.nbytes for p in trained)
    assert found["buffer"] == sum(b.nbytes for b in net.buffers())
    assert measured(net, shape) == pytest.approx(found["total"], rel=0.1)


@pytest.mark.parametrize("strategy", MEMORY)
@pytest.mark.parametrize(
    "name",
    ["short", "chapter", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)],
)
def test_the_closed_form_is_what_is_allocated(name, strategy, one_thread):
    config, shape = NETWORKS[name]
    config = {**config, "memory": strategy}
    found = measured(DenseNet(**config), shape, optimizer=momentum)
    assert cost.peak(config, shape).total == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize(
    "number", [5, pytest.param(50, marks=pytest.mark.slow)], ids=lambda n: f"{n} nets"
)
def test_the_closed_form_of_random_networks(number, one_thread):
    """Within 10 %, but for a few: single layers, whose input is not concatenated."""
    random, ratios = np.random.default_rng(0), []
    for _ in range(number):
        side, images = random.choice([32, 48, 64]), random.choice([4, 8, 16])
        shape = int(images), 3, int(side), int(side)
        config = {
            "in_channels": 3,
            "num_channels": int(random.choice([8, 16, 32])),
            "growth_rate": int(random.choice([4, 8, 12, 16])),
            "arch": random.integers(1, 7, size=random.integers(1, 4)).tolist(),
            "bottleneck": random.choice([None, 2, 4]),
            "compression": random.choice([0.5, 1.0]),
            "pool": random.choice(["avg", "max", "stride"]),
            "stem": random.choice(["imagenet", "cifar"]),
        }
        for strategy in MEMORY:
            config["memory"] = strategy
            found = measured(DenseNet(**config), shape, optimizer=momentum)
            ratios.append(cost.peak(config, shape).total / found)
    errors = np.abs(np.array(ratios) - 1)
    assert np.quantile(errors, 0.98) <= 0.1 and errors.max() <= 0.15, ratios


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "share"), [("chapter", 0.45), ("121", 0.35), ("BC-100-12", 0.3)]
)
def test_shared_needs_a_fraction_of_plain(name, share):
    config, shape = NETWORKS[name]
    plain, shared = (
        measured(DenseNet(**config, memory=m), shape, optimizer=momentum)
        for m in ("plain", "shared")
    )
    assert shared <= share * plain


def test_a_linear_net_by_hand():
    """y = XW: parameters, a momentum for each, the input, the gradient."""
    net, (X, y) = nn.Linear(1000, 500, bias=False), batch(4, 1000)
    found = memory.training_peak(net, X.shape, momentum)
    weights = 4 * 1000 * 500
    assert found["parameter"] == found["optstate"] == weights
    assert found["temp"] >= weights  # the gradient, until it is handed over
    assert found["other"] == X.nbytes + y.nbytes == 4 * 4 * 1000 + 4 * 8
    assert found["total"] == sum(v for k, v in found.items() if k != "total")
    held = memory.timeline(net, (X, y), momentum)
    assert held[0] == 2 * weights + X.nbytes + y.nbytes
    assert held[-1] == pytest.approx(held[0] + weights, rel=0.01)  # a gradient
    assert max(held) == pytest.approx(found["total"], rel=0.1)
    assert memory.measure(net, (X, y), momentum)["total"] == max(held)


def test_it_changes_nothing():
    net, environment = DenseNet(**TINY), dict(os.environ)
    before = deepcopy(net)
    memory.training_peak(net, (2, 1, 32, 32))
    memory.measure(net, batch(2, 1, 32, 32))
    assert_equal_states(net, before)
    assert all(p.grad is None for p in net.parameters())
    assert dict(os.environ) == environment


def test_it_allocates_nothing():
    """A network on the meta device, at a size that no machine could train."""
    with torch.device("meta"):
        net = DenseNet(**TINY)
    found = memory.training_peak(net, (1_000_000, 1, 224, 224))
    assert found["total"] > 2**40


def test_mixed_precision_needs_less():
    net, shape = DenseNet(**TINY), (8, 1, 64, 64)
    single = memory.training_peak(net, shape)
    half = memory.training_peak(net, shape, autocast=torch.bfloat16)
    assert half["activation"] < 0.7 * single["activation"]
    assert half["parameter"] == single["parameter"]


def test_any_module_and_optimizer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    found = memory.training_peak(net, (2, 3, 4), torch.optim.Adam)
    assert found["optstate"] >= 2 * found["parameter"]
    lazy = d2l.SoftmaxRegression(10, 0.1)
    with pytest.raises(RuntimeError, match="uninitialized parameter"):
        memory.training_peak(lazy, (4, 1, 28, 28))


@pytest.mark.parametrize("shape", [(), (0, 1, 32, 32), (2, 1, 32.0, 32), "8"])
def test_a_shape_that_is_none(shape):
    with pytest.raises(ValueError, match="input_shape=.*whole numbers"):
        memory.training_peak(DenseNet(**SMALL), shape)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("strategy", MEMORY)
def test_the_estimate_on_cuda(strategy):
    net, shape = DenseNet(memory=strategy, momentum=0.9).cuda(), (32, 1, 96, 96)
    estimated = memory.training_peak(net, shape)["total"]
    found = memory.measure(net, batch(*shape, device="cuda"))
    assert found["total"] == pytest.approx(estimated, rel=0.1)
    assert found["reserved"] >= found["total"]
