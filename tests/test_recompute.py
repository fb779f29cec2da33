"""d2l_dense/recompute.py: the lean strategies give what the plain network gives."""

from contextlib import nullcontext

import pytest
import torch
from helpers import assert_same_step, assert_same_training, randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import update_bn
from torch.utils._python_dispatch import TorchDispatchMode

from d2l_dense import VARIANTS, DenseBlock, DenseNet

LEAN = ["checkpoint", "shared"]
SMALL = dict(num_channels=6, growth_rate=4, arch=(2, 3))
NETWORKS = {
    "small": (SMALL, (4, 1, 32, 40)),
    "bottleneck": (SMALL | dict(bottleneck=2, bias=False, pool="max"), (3, 1, 24, 20)),
    "cifar": (SMALL | dict(bottleneck=1, stem="cifar", pool="stride"), (2, 1, 9, 10)),
}
LARGE = {
    "chapter": ({}, (4, 1, 64, 80)),
    "BC-100-12": (VARIANTS["BC-100-12"], (2, 3, 16, 16)),
    **{name: (VARIANTS[name], (2, 3, 64, 64)) for name in ("121", "169", "201")},
}

every_strategy = pytest.mark.parametrize("memory", ["plain", *LEAN])
lean = pytest.mark.parametrize("memory", LEAN)
with_and_without_bottleneck = pytest.mark.parametrize("bottleneck", [None, 2])


def blocks(memory, **options):
    """A lean block and a plain one with the same random weights, in float64."""
    torch.manual_seed(0)
    lean = randomise(DenseBlock(4, 3, 5, memory=memory, **options))
    plain = DenseBlock(4, 3, 5, **options).double()
    plain.load_state_dict(lean.state_dict())
    return lean, plain


def batch(*shape):
    torch.manual_seed(1)
    return torch.randn(shape, dtype=torch.float64)


@settings(max_examples=30)
@given(
    memory=st.sampled_from(LEAN),
    bottleneck=st.none() | st.integers(1, 3),
    bias=st.booleans(),
    size=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    shape=st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(1, 5)),
)
def test_any_block(memory, bottleneck, bias, size, shape):
    options = {"bottleneck": bottleneck, "bias": bias}
    lean = DenseBlock(*size, memory=memory, **options)
    n, h, w = shape
    assert_same_training(lean, DenseBlock(*size, **options), (n, size[0], h, w))


@pytest.mark.parametrize(
    "name", [*NETWORKS, *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]
)
@lean
def test_three_steps_of_training(memory, name):
    """Logits, gradients and buffers in each of three steps; then in evaluation.

    At a rate of 0.1, two images make 201 diverge, and rounding grows with it.
    """
    config, shape = (NETWORKS | LARGE)[name]
    torch.manual_seed(0)
    nets = [DenseNet(**config | {"memory": m}).double() for m in (memory, "plain")]
    nets[0].load_state_dict(nets[1].state_dict())
    optimizers = [torch.optim.SGD(n.parameters(), 0.01, momentum=0.9) for n in nets]
    for seed in range(3):
        torch.manual_seed(seed)
        assert_same_step(*nets, torch.randn(shape, dtype=torch.float64))
        for optimizer in optimizers:
            optimizer.step()
    assert_same_step(*(net.eval() for net in nets), batch(*shape))


@with_and_without_bottleneck
@pytest.mark.parametrize("train", [True, False])
def test_gradients_equal_differences(bottleneck, train):
    block = blocks("shared", bottleneck=bottleneck)[0].train(train)
    inputs = batch(2, 4, 3, 3).requires_grad_(), *block.parameters()
    assert torch.autograd.gradcheck(lambda X, *_: block(X), inputs, fast_mode=True)


@lean
def test_gradients_accumulate_and_a_graph_is_kept(memory):
    """Under no_grad too, as D2L's trainer does; the statistics move once a batch."""
    found = []
    for net in blocks(memory, bottleneck=2):
        for seed in range(2):
            torch.manual_seed(seed)
            loss = net(torch.randn(2, 4, 3, 3).double()).square().sum()
            with torch.no_grad():
                loss.backward(retain_graph=True)
                loss.backward()
        found.append([*(p.grad for p in net.parameters()), *net.buffers()])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "change",
    [
        {"momentum": 0.3},
        {"momentum": None},
        {"track_running_stats": False},
        {"num_batches_tracked": None},
        dict.fromkeys(["running_mean", "running_var", "num_batches_tracked"]),
    ],
)
@lean
def test_running_statistics(memory, change):
    nets = blocks(memory, bottleneck=2)
    for module in (module for net in nets for module in net.modules()):
        if isinstance(module, nn.BatchNorm2d):
            for name, value in change.items():
                setattr(module, name, value)
    for train in (True, True, False):
        assert_same_step(*(net.train(train) for net in nets), batch(2, 4, 3, 3))


@lean
def test_update_bn(memory):
    nets = blocks(memory, bottleneck=2)
    for net in nets:
        update_bn([batch(2, 4, 3, 3), 3 * batch(5, 4, 3, 3)], net)
    torch.testing.assert_close(*(list(net.buffers()) for net in nets))


@with_and_without_bottleneck
@lean
def test_channels_last(memory, bottleneck):
    nets = blocks(memory, bottleneck=bottleneck)
    nets = [net.to(memory_format=torch.channels_last) for net in nets]
    X = batch(2, 4, 3, 5).to(memory_format=torch.channels_last)
    assert_same_step(*nets, X)
    assert nets[0](X).is_contiguous(memory_format=torch.channels_last)


@lean
def test_frozen_parts(memory):
    nets = blocks(memory, bottleneck=2)
    for net in nets:
        net.layers[1].eval()  # the running statistics of one layer, as they are
        net.layers[1].requires_grad_(False)
        net.layers[2][0].weight.requires_grad_(False)
    assert_same_step(*nets, batch(2, 4, 3, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backward_too", [False, True])
@lean
def test_mixed_precision(memory, dtype, backward_too):
    """About as near to double precision as the plain network is."""
    torch.manual_seed(0)
    config = dict(num_channels=8, growth_rate=4, arch=(2, 2), bottleneck=2)
    exact = DenseNet(**config).double()
    X, y = batch(8, 1, 32, 32), torch.arange(8)
    exact.loss(exact(X), y).backward()
    expected = torch.cat([p.grad.flatten() for p in exact.parameters()])
    errors = {}
    for strategy in (memory, "plain"):
        net = DenseNet(**config, memory=strategy)
        net.load_state_dict(exact.state_dict())
        with torch.autocast("cpu", dtype):
            loss = net.loss(net(X.float()), y)
        with torch.autocast("cpu", dtype) if backward_too else nullcontext():
            loss.backward()
        found = torch.cat([p.grad.flatten() for p in net.parameters()])
        errors[strategy] = (found - expected).norm() / expected.norm()
    assert errors["plain"] < 0.2 and errors[memory] <= 1.2 * errors["plain"]


@lean
def test_data_parallel(memory, tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        lean, plain = blocks(memory, bottleneck=2)
        assert_same_step(DistributedDataParallel(lean), plain, batch(2, 4, 3, 3))
    finally:
        torch.distributed.destroy_process_group()


def test_weights_that_are_exchanged_before_the_backward_pass():
    """As `functional_call` does, which puts the module's own back at once."""
    found = []
    for net in blocks("shared"):
        others = {name: p.detach() + 0.1 for name, p in net.named_parameters()}
        X = batch(2, 4, 3, 3).requires_grad_()
        Y = torch.func.functional_call(net, others, X)
        found += torch.autograd.grad(Y.square().sum(), X)
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


def test_statistics_that_move_before_the_backward_pass():
    block, _ = blocks("shared")
    X, found = batch(2, 4, 3, 3), []
    for between in (False, True):
        Y = block.eval()(X)
        if between:
            block.train()(X)
        found.append(torch.autograd.grad(Y.square().sum(), list(block.parameters())))
    torch.testing.assert_close(*found)


# The compiler hides this warning in a way that does not hide it from -W error.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@every_strategy
def test_compiled(memory):
    block, plain = blocks(memory)
    with torch._dynamo.config.patch(issue_3_13_0_warning=False):
        compiled = torch.compile(block, backend="eager")
        assert_same_step(compiled, plain, batch(2, 4, 6, 6))


class Convolutions(TorchDispatchMode):
    """Counts the convolutions that are computed; their gradients do not count."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **kwargs or {})


def test_shared_computes_no_convolution_of_a_block_twice():
    counts = {}
    for memory in ("plain", *LEAN):
        net = DenseNet(4, 2, (2, 3), bottleneck=2, memory=memory)
        with Convolutions() as convolutions:
            net(torch.randn(2, 1, 32, 32)).sum().backward()
        counts[memory] = convolutions.count
    # The stem's is computed twice; in "checkpoint", those of the bottlenecks as well.
    assert counts == {"plain": 12, "shared": 12 + 1, "checkpoint": 12 + 1 + 5}


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.append(nn.Dropout(0.3)),
        lambda layer: layer.__setitem__(1, nn.ELU()),
        lambda layer: setattr(layer[1], "forward", lambda X: X.clamp(-1, 1)),
        lambda layer: layer.__setitem__(0, nn.BatchNorm2d(9, affine=False)),
        lambda layer: setattr(layer[0], "bias", None),
        lambda layer: setattr(layer[0], "eps", 0.1),
        lambda layer: setattr(layer[2], "padding", "valid"),
        lambda layer: setattr(layer[5], "padding_mode", "reflect"),
        lambda layer: layer.__setitem__(5, nn.Conv2d(10, 5, 3, 1, 2, 2, groups=5)),
        lambda layer: layer.register_forward_hook(lambda *args: 2 * args[-1]),
        lambda layer: layer[2].register_forward_pre_hook(lambda _, X: (2 * X[0],)),
        lambda layer: layer[5].register_full_backward_hook(lambda *a: (2 * a[1][0],)),
    ],
)
@lean
def test_changed_layers(memory, change):
    nets = blocks(memory, bottleneck=2)
    for net in nets:
        torch.manual_seed(0)
        change(net.layers[1])
        net.double()
    assert_same_step(*nets, batch(3, 4, 3, 3))


@every_strategy
def test_input_that_does_not_fit(memory):
    """PyTorch's own errors; its kernels alone would read past their arrays."""
    block, _ = blocks(memory)
    for channels in (1, 5):
        with pytest.raises(RuntimeError, match=f"should contain {channels} elements"):
            block(batch(2, channels, 6, 6))
    with pytest.raises(ValueError, match="more than 1 value per channel when training"):
        block(batch(1, 4, 1, 1))
    assert block.eval()(batch(1, 4, 1, 1)).shape == (1, 19, 1, 1)


def test_a_second_derivative_is_refused():
    block, _ = blocks("shared")
    X = batch(2, 4, 3, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative; 'plain' has"):
        torch.autograd.grad(block(X).sum(), X, create_graph=True)


@lean
def test_synchronized_norms(memory):
    nets = map(nn.SyncBatchNorm.convert_sync_batchnorm, blocks(memory))
    assert_same_step(*(net.double() for net in nets), batch(3, 4, 3, 3))
