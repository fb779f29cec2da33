"""The memory strategies: they give what the plain network gives."""

from copy import deepcopy

import pytest
import torch
from helpers import assert_same_training, randomise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from d2l_dense import VARIANTS, DenseBlock, DenseNet, TransitionBlock, parts
from d2l_dense.batch_norm import Moments, moments, relu_, relu_back
from d2l_dense.convolutions import convolve, convolve_back
from d2l_dense.norm_gradients import NormGradients
from d2l_dense.stems import imagenet_stem

LEAN = ["checkpoint", "shared"]
# How many bytes of a batch memory="shared" works on: here the whole, or an image.
PARTS = parts.PART, 1
NETWORKS = {
    "chapter": ({}, (4, 1, 64, 80)),
    "BC-100-12": (VARIANTS["BC-100-12"], (2, 3, 16, 16)),
    "121": (VARIANTS["121"], (2, 3, 64, 64)),
    "169": (VARIANTS["169"], (2, 3, 64, 64)),
    "201": (VARIANTS["201"], (2, 3, 64, 64)),
}


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


def assert_equal(found, expected):
    """Equal up to rounding, relative to the largest of all."""
    largest = max(tensor.abs().max() for tensor in expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-10 * largest


def assert_same(lean, plain, X):
    """Assert equal outputs, gradients of input and parameters, and buffers."""
    results = []
    for net in (lean, plain):
        net.zero_grad()
        X_i = X.clone().requires_grad_()
        Y = net(X_i)
        torch.manual_seed(2)
        (Y * torch.randn_like(Y)).sum().backward()
        results.append((Y, X_i.grad, [p.grad for p in net.parameters()]))
    (Y, of_X, of_p), (Y_2, of_X_2, of_p_2) = results
    assert_equal([Y], [Y_2])
    assert_equal([of_X], [of_X_2])
    assert [g is None for g in of_p] == [g is None for g in of_p_2]
    assert_equal(*([g for g in gs if g is not None] for gs in (of_p, of_p_2)))
    for a, b in zip(lean.buffers(), plain.buffers(), strict=True):
        assert_equal([a], [b])


# The same training


@settings(max_examples=30)
@given(
    memory=st.sampled_from(LEAN),
    part=st.sampled_from(PARTS),
    bottleneck=st.none() | st.integers(1, 3),
    bias=st.booleans(),
    in_channels=st.integers(1, 5),
    num_layers=st.integers(1, 4),
    growth_rate=st.integers(1, 4),
    shape=st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(1, 5)),
)
def test_any_block(
    memory, part, bottleneck, bias, in_channels, num_layers, growth_rate, shape
):
    options = {"bottleneck": bottleneck, "bias": bias}
    size = in_channels, num_layers, growth_rate
    lean = DenseBlock(*size, memory=memory, **options)
    n, h, w = shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", part)
        assert_same_training(lean, DenseBlock(*size, **options), (n, in_channels, h, w))


@settings(max_examples=30)
@given(
    part=st.sampled_from(PARTS),
    bias=st.booleans(),
    train=st.booleans(),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 5)),
    shape=st.tuples(st.integers(1, 3), st.integers(5, 12), st.integers(5, 12)),
)
def test_any_stem(part, bias, train, channels, shape):
    """With scales of both signs: BN turns the order of some channels round."""
    torch.manual_seed(0)
    lean = randomise(imagenet_stem(*channels, bias)).train(train)
    plain = deepcopy(lean)
    lean.memory = "shared"
    n, h, w = shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", part)
        assert_same(lean, plain, batch(n, channels[0], h, w))


@pytest.mark.parametrize(
    "name",
    [
        *("chapter", "BC-100-12", "121"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("169", "201")),
    ],
)
@pytest.mark.parametrize(
    ("memory", "part"), [("checkpoint", PARTS[0]), *(("shared", p) for p in PARTS)]
)
def test_three_steps_of_training(memory, part, name, monkeypatch):
    """Logits, every gradient and every buffer, after each of three SGD steps.

    At a rate of 0.1, two images make 201 diverge in three steps (logits of 1e8), and
    rounding grows with it: plain alone, in another layout, then differs by 6e-11.
    """
    monkeypatch.setattr(parts, "PART", part)
    config, shape = NETWORKS[name]
    torch.manual_seed(0)
    plain = DenseNet(**config, lr=0.01, momentum=0.9).double()
    lean = DenseNet(**config, lr=0.01, momentum=0.9, memory=memory).double()
    lean.load_state_dict(plain.state_dict())
    optimizers = [net.configure_optimizers() for net in (lean, plain)]
    y = torch.arange(shape[0])
    for seed in range(3):
        torch.manual_seed(seed)
        X = torch.randn(shape, dtype=torch.float64)
        for net, optimizer in zip((lean, plain), optimizers, strict=True):
            optimizer.zero_grad()
            net.loss(net(X), y).backward()
        gradients = ([p.grad for p in net.parameters()] for net in (lean, plain))
        assert_equal(*gradients)
        for optimizer in optimizers:
            optimizer.step()
        for a, b in zip(lean.buffers(), plain.buffers(), strict=True):
            assert_equal([a], [b])
        with torch.no_grad():
            assert_equal([lean.eval()(X)], [plain.eval()(X)])
        lean.train(), plain.train()


@pytest.mark.parametrize("pool", ["avg", "max", "stride"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("memory", LEAN)
def test_any_pooling(memory, part, pool, monkeypatch):
    """Of a transition alone, and of one that reads the block's buffer."""
    monkeypatch.setattr(parts, "PART", part)
    size = dict(num_channels=4, growth_rate=3, arch=(2, 1), pool=pool, stem="cifar")
    lean, plain = DenseNet(**size, memory=memory), DenseNet(**size)
    assert_same_training(lean, plain, (3, 1, 7, 6))
    lean = TransitionBlock(5, 3, pool=pool, memory=memory)
    assert_same_training(lean, TransitionBlock(5, 3, pool=pool), (3, 5, 7, 6))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("bottleneck", [None, 2])
def test_gradients_equal_differences(bottleneck, train):
    block, _ = blocks("shared", bottleneck=bottleneck)
    block.train(train)
    X = batch(2, 4, 3, 3).requires_grad_()
    parameters = tuple(block.parameters())

    def compute(X, *_):
        return block(X)

    assert torch.autograd.gradcheck(compute, (X, *parameters), fast_mode=True)


@pytest.mark.parametrize("memory", LEAN)
def test_eval_and_no_grad(memory):
    lean, plain = (net.eval() for net in blocks(memory, bottleneck=2))
    assert_same(lean, plain, batch(1, 4, 1, 1))
    with torch.no_grad():
        Y = lean(batch(2, 4, 3, 3))
    assert not Y.requires_grad
    assert_equal([Y], [plain(batch(2, 4, 3, 3))])


def test_no_images():
    lean, plain = (net.eval() for net in blocks("shared", bottleneck=2))
    X = batch(0, 4, 3, 3).requires_grad_()
    assert lean(X).shape == plain(X).shape
    lean(X).sum().backward()
    assert not any(p.grad.any() for p in lean.parameters())
    with pytest.raises(ValueError, match="found 0 values per channel"):
        lean.train()(X)


@pytest.mark.parametrize("memory", LEAN)
def test_running_statistics_are_updated_once(memory):
    lean, _ = blocks(memory)
    norm = lean.layers[1][0]
    before = norm.num_batches_tracked.item()
    lean(batch(2, 4, 3, 3)).sum().backward()
    assert norm.num_batches_tracked == before + 1
    assert norm.track_running_stats


@pytest.mark.parametrize("momentum", [None, 0.3])
@pytest.mark.parametrize("memory", LEAN)
def test_momentum_of_the_running_statistics(memory, momentum):
    lean, plain = blocks(memory, bottleneck=2)
    for module in (*lean.modules(), *plain.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
            module.reset_running_stats()
    for _ in range(3):
        assert_same(lean, plain, batch(2, 4, 3, 3))


@pytest.mark.parametrize("memory", LEAN)
def test_statistics_that_are_not_tracked(memory):
    lean, plain = blocks(memory, bottleneck=2)
    for module in (*lean.modules(), *plain.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
            module.num_batches_tracked = None
    for train in (True, False):
        assert_same(lean.train(train), plain.train(train), batch(2, 4, 3, 3))


# The ways in which networks are used


@pytest.mark.parametrize("memory", LEAN)
def test_frozen_parts(memory):
    lean, plain = blocks(memory, bottleneck=2)
    for net in (lean, plain):
        net.layers[1].eval()  # the running statistics of one layer, as they are
        for parameter in net.layers[1].parameters():
            parameter.requires_grad_(False)
        net.layers[2][0].weight.requires_grad_(False)
    assert_same(lean, plain, batch(2, 4, 3, 3))


@pytest.mark.parametrize("memory", LEAN)
def test_gradients_accumulate(memory):
    lean, plain = blocks(memory)
    for net in (lean, plain):
        for seed in range(2):
            torch.manual_seed(seed)
            net(torch.randn(2, 4, 3, 3, dtype=torch.float64)).square().sum().backward()
    assert_equal(*([p.grad for p in net.parameters()] for net in (lean, plain)))


@pytest.mark.parametrize("memory", LEAN)
def test_a_graph_that_is_kept_and_a_backward_pass_under_no_grad(memory):
    """D2L's trainer calls `backward` under no_grad."""
    lean, plain = blocks(memory)
    for net in (lean, plain):
        Y = net(batch(2, 4, 3, 3)).square().sum()
        with torch.no_grad():
            Y.backward(retain_graph=True)
            Y.backward()
    assert_equal(*([p.grad for p in net.parameters()] for net in (lean, plain)))


@pytest.mark.parametrize("bottleneck", [None, 2])
@pytest.mark.parametrize("memory", LEAN)
def test_channels_last(memory, bottleneck):
    lean, plain = blocks(memory, bottleneck=bottleneck)
    X = batch(2, 4, 3, 5).to(memory_format=torch.channels_last)
    for net in (lean, plain):
        net.to(memory_format=torch.channels_last)
    assert_same(lean, plain, X)
    assert lean(X).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("pool", ["avg", "max", "stride"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("memory", LEAN)
def test_channels_last_in_single_precision(memory, stem, pool):
    """As the trainer has it on a CPU, where 1x1 convolutions go row by row."""
    torch.manual_seed(0)
    size = dict(num_channels=8, growth_rate=4, arch=(2, 2), pool=pool, stem=stem)
    lean, plain = DenseNet(**size, memory=memory), DenseNet(**size)
    plain.load_state_dict(lean.state_dict())
    X = torch.randn(6, 1, 32, 32).to(memory_format=torch.channels_last)
    grads = []
    for net in (lean, plain):
        net.to(memory_format=torch.channels_last)
        net(X).square().sum().backward()
        grads.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", LEAN)
def test_mixed_precision(memory, dtype):
    """As near to double precision as the plain block is, and of the same type."""
    torch.manual_seed(0)
    exact = DenseBlock(16, 4, 8, bottleneck=2).double()
    X, weights = batch(8, 16, 8, 8), batch(8, 48, 8, 8)
    Y = exact(X)
    (Y * weights).sum().backward()
    expected = [Y, *(p.grad for p in exact.parameters())]
    errors = []
    for strategy in (memory, "plain"):
        net = DenseBlock(16, 4, 8, bottleneck=2, memory=strategy)
        net.load_state_dict(exact.state_dict())
        with torch.autocast("cpu", dtype=dtype):
            Y = net(X.to(dtype))
        (Y * weights).sum().backward()
        assert Y.dtype == dtype
        found = [Y, *(p.grad for p in net.parameters())]
        assert all(g.dtype == torch.float32 for g in found[1:])
        # Biases have no gradient but for rounding: relative to the largest.
        errors.append([(a - b).norm() for a, b in zip(found, expected, strict=True)])
    ours, theirs = (torch.stack(error) for error in errors)
    assert theirs.max() < 0.2 * max(g.norm() for g in expected)
    assert ours.norm() <= 1.2 * theirs.norm()


@pytest.mark.parametrize("memory", LEAN)
def test_mixed_precision_of_a_network(memory):
    """Stem and transition too: about as near to double precision as plain."""
    torch.manual_seed(0)
    exact = DenseNet(16, 8, (2, 2), bottleneck=2).double()
    X, y = batch(16, 1, 48, 48), torch.arange(16) % 10
    exact.loss(exact(X), y).backward()
    expected = torch.cat([p.grad.flatten() for p in exact.parameters()])
    errors = {}
    for strategy in (memory, "plain"):
        net = DenseNet(16, 8, (2, 2), bottleneck=2, memory=strategy)
        net.load_state_dict(exact.state_dict())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = net.loss(net(X.float()), y)
        loss.backward()
        assert all(p.grad.dtype == torch.float32 for p in net.parameters())
        found = torch.cat([p.grad.flatten() for p in net.parameters()])
        errors[strategy] = (found - expected).norm() / expected.norm()
    assert errors["plain"] < 0.2
    assert errors[memory] <= 1.2 * errors["plain"]


@pytest.mark.parametrize("memory", LEAN)
def test_a_model_in_half_precision(memory):
    lean, plain = blocks(memory, bottleneck=2)
    lean.bfloat16(), plain.bfloat16()
    X = batch(2, 4, 3, 3).bfloat16()
    found, expected = lean(X), plain(X)
    assert (found - expected).norm() < 0.02 * expected.norm()
    found.sum().backward()
    assert all(p.grad.dtype == torch.bfloat16 for p in lean.parameters())


@pytest.mark.parametrize("memory", LEAN)
def test_data_parallel(memory, tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        lean, plain = blocks(memory, bottleneck=2)
        parallel = DistributedDataParallel(lean)
        for net in (parallel, plain):
            net(batch(2, 4, 3, 3)).square().sum().backward()
        assert_equal(*([p.grad for p in net.parameters()] for net in (lean, plain)))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("memory", LEAN)
def test_same_weights(memory):
    config = dict(num_channels=4, growth_rate=2, arch=(1, 2), bottleneck=2)
    lean, plain = DenseNet(**config, memory=memory), DenseNet(**config)
    lean.load_state_dict(plain.state_dict())
    assert list(lean.state_dict()) == list(plain.state_dict())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("memory", LEAN)
def test_on_cuda(memory):
    lean, plain = (net.cuda() for net in blocks(memory, bottleneck=2))
    assert_same(lean, plain, batch(2, 4, 6, 6).cuda())


# What is refused


class _Twice(nn.Sequential):
    def forward(self, X):
        return 2 * super().forward(X)


def test_a_second_derivative_is_refused():
    block, _ = blocks("shared")
    X = batch(2, 4, 3, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative.*memory='plain'"):
        torch.autograd.grad(block(X).sum(), X, create_graph=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.append(nn.Dropout(0.1)),
        lambda layer: layer.__setitem__(1, nn.ELU()),
        lambda layer: layer.__setitem__(0, nn.BatchNorm2d(4, affine=False)),
        lambda layer: setattr(layer[0], "bias", None),
        lambda layer: layer[0].register_forward_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_hook(lambda *_: None),
        lambda layer: setattr(layer[2], "padding_mode", "reflect"),
        lambda layer: setattr(layer[2], "padding", "same"),
        lambda layer: setattr(layer, "__class__", _Twice),
    ],
)
def test_other_layers_are_refused(change):
    block, _ = blocks("shared")
    change(block.layers[0])
    with pytest.raises(ValueError, match="memory='shared' computes BatchNorm2d"):
        block(batch(2, 4, 3, 3))


def test_other_transitions_and_stems_are_refused():
    net = DenseNet(4, 2, (1, 1), memory="shared")
    change = {1: nn.ELU(), 2: nn.Conv2d(6, 6, 2, stride=2)}  # a pooling with weights
    for i, module in change.items():
        kept, net.net.transition1[i] = net.net.transition1[i], module
        with pytest.raises(ValueError, match="computes .* pooling between blocks"):
            net(torch.randn(2, 1, 32, 32))
        net.net.transition1[i] = kept
    net.net.stem[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="without hooks; found _ImageNetStem"):
        net(torch.randn(2, 1, 32, 32))


def test_who_looks_at_a_block_sees_what_it_returns():
    config = dict(num_channels=4, growth_rate=2, arch=(1, 2), memory="shared")
    torch.manual_seed(0)
    net, X, seen = DenseNet(**config), torch.randn(2, 1, 32, 32), []
    expected = net(X)
    net.net.block1.register_forward_hook(lambda *args: seen.append(args[-1].shape))
    net.net.transition1.register_forward_hook(lambda *_: seen.append("transition"))
    torch.testing.assert_close(net(X), expected)
    assert seen == [(2, 6, 8, 8), "transition"]


@pytest.mark.parametrize("change", [None, "num_batches_tracked", "running_mean"])
def test_statistics_that_are_only_there_in_part(change):
    results = []
    for net in blocks("shared"):
        if change:
            net.layers[1][0].register_buffer(change, None)
        if change == "running_mean":
            net.layers[1][0].register_buffer("running_var", None)
        results.append((net(batch(2, 4, 3, 3)), dict(net.named_buffers())))
    (Y, buffers), (expected, of_plain) = results
    assert_equal([Y], [expected])
    assert buffers.keys() == of_plain.keys()
    for name, buffer in buffers.items():
        assert_equal([buffer], [of_plain[name]])


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_another_number_of_channels_is_refused(channels):
    block, _ = blocks("shared")
    words = f"{channels} channels came to a batch normalisation of 4"
    for stage in (block, TransitionBlock(4, 3, memory="shared").double()):
        with pytest.raises(ValueError, match=words):
            stage(batch(2, channels, 6, 6))


def test_weights_that_are_exchanged_before_the_backward_pass():
    """As `functional_call` does, which puts the module's own back at once."""
    results = []
    for memory in ("shared", "plain"):
        torch.manual_seed(0)
        net = DenseNet(4, 2, (1, 1), memory=memory).double()
        others = {name: p.detach() + 0.1 for name, p in net.named_parameters()}
        others = {name: p.requires_grad_() for name, p in others.items()}
        Y = torch.func.functional_call(net, others, batch(2, 1, 32, 32))
        results.append(torch.autograd.grad(Y.square().sum(), list(others.values())))
    assert_equal(*results)


def test_a_channel_that_does_not_vary_has_no_gradient_for_its_scale():
    """In half precision, a sum of g * x and one of g would not cancel."""
    block, _ = blocks("shared")
    X = batch(2, 4, 6, 6).float()
    X[:, 1] = 3.3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Y = block.float()(X.bfloat16())
    Y.float().square().sum().backward()
    of_scale = block.layers[0][0].weight.grad
    assert of_scale[1].abs() < 1e-3 * of_scale.abs().max()


def test_a_backward_pass_under_autocast():
    torch.manual_seed(0)
    net, X = DenseNet(4, 2, (1, 1), memory="shared"), torch.randn(2, 1, 32, 32)
    (expected,) = torch.autograd.grad(net(X).sum(), net.net.stem[0].weight)
    loss = net(X).sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss.backward()
    found = net.net.stem[0].weight.grad
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_in_evaluation_an_image_does_not_spoil_another():
    block, _ = blocks("shared")
    X = batch(3, 4, 3, 3)
    X[1, 0, 0, 0] = torch.nan
    X.requires_grad_()
    block.eval()(X).sum().backward()
    assert X.grad[[0, 2]].isfinite().all()


def test_statistics_that_follow_another_batch_before_the_backward_pass():
    lean, _ = blocks("shared")
    X = batch(2, 4, 3, 3)
    grads = []
    for between in (False, True):
        Y = lean.eval()(X)
        if between:
            lean.train()(X)
        grads.append(torch.autograd.grad(Y.square().sum(), list(lean.parameters())))
    assert_equal(*grads)


def test_weights_that_change_before_the_backward_pass_are_refused():
    net = DenseNet(4, 2, (1, 1), memory="shared")
    loss = net(torch.randn(2, 1, 32, 32)).sum()
    with torch.no_grad():
        net.net.stem[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_is_random_is_drawn_once():
    results = []
    for memory in ("plain", "checkpoint"):
        block = DenseBlock(4, 3, 5, memory=memory)
        block.load_state_dict(blocks("plain")[1].state_dict())
        for layer in block.layers:
            layer.append(nn.Dropout(0.3))
        torch.manual_seed(2)
        block(batch(2, 4, 6, 6).float()).square().sum().backward()
        results.append([p.grad for p in block.parameters()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_checkpointing_calls_a_layers_hooks():
    block, _ = blocks("checkpoint")
    seen = []
    block.layers[1].register_forward_hook(lambda *_: seen.append("forward"))
    block.layers[1].register_full_backward_hook(lambda *_: seen.append("backward"))
    block(batch(2, 4, 6, 6)).sum().backward()
    assert seen[0] == "forward" and seen[-1] == "backward"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("memory", ["plain", *LEAN])
def test_compiled(memory):
    lean, plain = blocks(memory)
    assert_same(torch.compile(lean, backend="eager"), plain, batch(2, 4, 6, 6))


def test_without_values():
    block = DenseBlock(4, 3, 5, memory="shared").to("meta")
    assert block(torch.empty(2, 4, 6, 6, device="meta")).shape == (2, 19, 6, 6)
    for memory in ("plain", *LEAN):
        net = DenseNet(4, 2, (1, 1), memory=memory).to("meta")
        assert net(torch.empty(2, 1, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("memory", ["plain", *LEAN])
def test_one_value_a_channel_is_refused(memory):
    block, _ = blocks(memory)
    with pytest.raises(
        ValueError, match="(?i)more than 1 value per channel|found 1 value"
    ):
        block(batch(1, 4, 1, 1))


def test_an_unknown_strategy():
    with pytest.raises(ValueError, match="memory='lean': expected one of plain, chec"):
        DenseNet(memory="lean")


# What is computed in another way than PyTorch's layers do


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_relu_by_the_bits(dtype):
    """For every number that there is in half precision; minus zero becomes zero."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    x = bits.view(dtype) if dtype.itemsize == 2 else torch.randn(len(bits))
    x = x.reshape(1, 4, -1, 64)
    g = torch.randn(x.shape).to(dtype)
    y = relu_(x.clone())
    torch.testing.assert_close(y, x.relu(), rtol=0, atol=0, equal_nan=True)
    known = ~x.isnan()
    expected = torch.where(x > 0, g, 0)
    assert torch.equal(relu_back(g, y)[known], expected[known])
    assert torch.equal(relu_back(g, y, out=g)[known], expected[known])
    assert torch.equal(g[known], expected[known])


@pytest.mark.parametrize("memory", LEAN)
@pytest.mark.parametrize("bottleneck", [None, 2])
@pytest.mark.parametrize("train", [True, False])
def test_scales_that_are_zero_or_small(memory, bottleneck, train):
    """Their gradient is not the kernel's, divided by them."""
    lean, plain = blocks(memory, bottleneck=bottleneck)
    for net in (lean.train(train), plain.train(train)):
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            with torch.no_grad():
                small = [0, -1e-12, 1e-300, 0.1]  # the third is 0 in single precision
                norm.weight[:4] = torch.tensor(small, dtype=torch.float64)
                norm.bias[:4] = torch.tensor([1, 1, 0.1, -5])
                norm.weight[-1] = norm.bias[-1] = 0
    assert_same(lean, plain, batch(3, 4, 3, 3))


def test_a_stem_whose_scale_is_zero():
    """All values of a window are its maximum; which is taken changes nothing else."""
    torch.manual_seed(0)
    lean = randomise(imagenet_stem(1, 4, True))
    with torch.no_grad():
        lean[1].weight[:2] = 0
        lean[1].bias[:2] = torch.tensor([1, -1])
    plain = deepcopy(lean)
    lean.memory = "shared"
    gradients, X = [], batch(3, 1, 12, 12)
    for stem in (lean, plain):
        Y = stem(X)
        Y.square().sum().backward()
        gradients.append([Y, *(p.grad for p in stem.parameters())])
        scales = stem[1].weight.grad
        assert scales[0].isfinite()
        assert scales[1] == 0  # ReLU lets nothing pass
        scales[0] = 0
    assert_equal(*gradients)


@pytest.mark.parametrize("memory", LEAN)
def test_a_convolution_in_groups(memory):
    lean, plain = blocks(memory, bottleneck=2)
    for net in (lean, plain):
        torch.manual_seed(0)
        net.layers[1][5] = nn.Conv2d(10, 5, 3, padding=1, groups=5).double()
    assert_same(lean, plain, batch(3, 4, 3, 3))


@pytest.mark.parametrize("ratio", [0, 1, 7.9, 8, 1e6])
def test_gradient_of_a_scale_beside_a_bias(ratio):
    """It has as many digits, whichever way it is computed."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 3, padding=1)
    x, g = torch.randn(2, 6, 9, 9), torch.randn(2, 8, 9, 9)
    weight = torch.rand(6) + 0.5
    bias = -weight * ratio
    bias[::2] *= -1
    of_norm = x.mean((0, 2, 3)), torch.ones(6), weight, bias
    exact = [t.double() for t in of_norm]
    scale = exact[2].requires_grad_()
    columns = [t[:, None, None] for t in exact]
    Y = columns[2] * (x.double() - columns[0]) + columns[3]
    passed = torch.nn.functional.conv2d(Y.relu(), conv.weight.double(), padding=1)
    (expected,) = torch.autograd.grad(passed, scale, g.double(), retain_graph=True)
    (into,) = torch.autograd.grad(passed, Y, g.double())
    Z = Y.detach().float().relu()
    _, of_kernel, _ = convolve_back(conv, conv.weight, g, Z, [False, True, False])
    found = NormGradients(x, *of_norm, conv)
    for i in range(2):
        found.add(into[i : i + 1].float(), x[i : i + 1])
    of_weight, of_bias = found.of_all(conv.weight, of_kernel)
    torch.testing.assert_close(of_bias, into.sum((0, 2, 3)).float())
    largest = expected.abs().max()
    assert (of_weight - expected).abs().max() <= 1e-5 * largest


@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("arrives", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_convolutions_in_another_form(n, layout, arrives, kernel_size, groups, dtype):
    """Row by row, or as a product of matrices: as PyTorch's layer in the same type."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, kernel_size, padding=kernel_size // 2, groups=groups)
    conv = conv.to(dtype)
    X = torch.randn(n, 6, 6, 7).to(dtype, memory_format=layout).requires_grad_()
    Y = conv(X)
    found = convolve(conv, X.detach(), conv.weight, conv.bias)
    torch.testing.assert_close(found, Y)
    assert found.is_contiguous(memory_format=layout)
    g = torch.randn_like(Y).contiguous(memory_format=arrives)
    expected = torch.autograd.grad(Y, (X, conv.weight, conv.bias), g)
    found = convolve_back(conv, conv.weight, g, X.detach(), [True] * 3)
    rounding = 0.01 if dtype == torch.bfloat16 else 1e-5
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a - b).abs().max() <= rounding * b.abs().max()
        wanted = [i == j for j in range(3)]
        alone = convolve_back(conv, conv.weight, g, X.detach(), wanted)
        torch.testing.assert_close(alone[i], a)
        assert i == 0 or alone[0] is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_moments(dtype):
    """By the one operation that a CPU has, part by part, and as elsewhere."""
    torch.manual_seed(0)
    X = (3 + torch.randn(7, 4, 5, 6, dtype=torch.float64)).to(dtype)
    collected = Moments(wanted=True)
    for part in X.split(3):
        collected.add(part)
    single = torch.promote_types(dtype, torch.float32)
    axes = (0, 2, 3)
    exact = X.double().mean(axes), X.double().var(axes, correction=0)
    for found in (collected.of_all(X), moments(X)):
        for a, b in zip(found, exact, strict=True):
            assert a.dtype == single
            torch.testing.assert_close(a, b.to(single), rtol=1e-5, atol=0)


@given(n=st.integers(1, 300), image=st.integers(1, 40))
def test_parts_are_alike(n, image):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART", 4 * 20)
        cuts = parts.parts(torch.empty(n, image, 1, 1))
    sizes = [len(range(n)[cut]) for cut in cuts]
    most = max(1, 20 // image)  # images that fit into a part
    assert sum(sizes) == n
    assert len(sizes) == -(-n // most)  # no more parts than are needed
    assert max(sizes) == -(-n // len(sizes))  # no larger than so many parts need be
