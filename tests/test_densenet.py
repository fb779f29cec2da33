"""d2l_dense/densenet.py: the network, the paper's networks, torchvision's weights."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
import torchvision
from helpers import Pictures, assert_same_step, assert_same_training, plain_densenet
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from d2l_dense import VARIANTS, DenseNet, densenet
from d2l_dense.recompute import MEMORY

SMALL = {"num_channels": 6, "growth_rate": 3, "arch": (2, 1, 2), "num_classes": 4}


def count(net):
    return sum(p.numel() for p in net.parameters())


def waves(*shape):
    """Numbers that look random, but need no generator, whose version would matter."""
    return torch.arange(math.prod(shape), dtype=torch.float64).sin().reshape(shape)


def test_every_stage_at_96x96():
    X, shapes = torch.randn(2, 1, 96, 96), []
    for stage in DenseNet().net:
        X = stage(X)
        shapes.append(X.shape)
    channels = [64, 192, 96, 224, 112, 240, 120, 248, 10]
    assert [shape[1] for shape in shapes] == channels
    assert [shape[2] for shape in shapes[:-1]] == [24, 24, 12, 12, 6, 6, 3, 3]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bottleneck": 2, "bias": False, "pool": "max"},
        {"stem": "cifar", "compression": 0.7, "in_channels": 3},
    ],
)
def test_training_equals_the_plain_form(options):
    config = SMALL | options
    plain = plain_densenet(**config, pool_first="pool" in options)
    shape = (6, config.get("in_channels", 1), 34, 32)
    assert_same_training(DenseNet(**config), plain, shape)


def test_it_computes_what_it_has_always_computed():
    """Numbers of this network before its code was written anew (commit e2b1d8a)."""
    net = DenseNet().double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(waves(*parameter.shape))
    Y = net(waves(2, 1, 64, 64))
    Y.square().sum().backward()
    stage = net.net
    some = (
        stage.stem[0].weight,
        stage.block2.layers[1][0].bias,
        stage.transition3[3].weight,
    )
    gradients = [parameter.grad.norm().item() for parameter in some]
    evaluated = net.eval()(waves(2, 1, 64, 64))
    expected = [62.09992306423382, -60.163275684759995, 58.718492785285285]
    assert Y[0, :3].tolist() == pytest.approx(expected, rel=1e-10)
    expected = [9830.217411661506, 4090.783539459549, 3024.9441134861577]
    assert gradients == pytest.approx(expected, rel=1e-10)
    expected = [-5.817640337168885, 6.538447503628055, -4.020379633586962]
    assert evaluated[1, -3:].tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("bottleneck", [None, 4])
def test_weights_start_from_he(bottleneck):
    torch.manual_seed(0)
    checked = 0
    for module in DenseNet(bottleneck=bottleneck).modules():
        if isinstance(module, nn.Conv2d):
            he = math.sqrt(2 / module.weight[0].numel())
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


@settings(max_examples=15)
@given(
    st.integers(1, 4),
    st.lists(st.integers(1, 2), min_size=1, max_size=3),
    st.none() | st.integers(1, 2),
    st.sampled_from([0.5, 0.7, 1.0]),
    st.sampled_from(["imagenet", "cifar"]),
    st.sampled_from(MEMORY),
)
def test_any_network_trains(growth_rate, arch, bottleneck, compression, stem, memory):
    more = {"bottleneck": bottleneck, "compression": compression, "stem": stem}
    more |= {"in_channels": 2, "memory": memory}
    net = DenseNet(4, growth_rate, arch, num_classes=3, **more)
    Y = net(torch.randn(3, 2, 32, 33))
    Y.square().sum().backward()
    assert Y.shape == (3, 3) and Y.isfinite().all()
    assert all(p.grad is not None for p in net.parameters())


def test_the_optimizer_is_what_was_asked_for():
    net = DenseNet(**SMALL, lr=0.2, momentum=0.9, weight_decay=1e-4)
    optimizer = net.configure_optimizers()
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


def test_its_arguments_make_it_anew():
    """NumPy's integers among them, as Python's: a run's record holds them."""
    net = DenseNet(*np.array([8, 4]), np.array([2, 1]), bottleneck=np.int64(3))
    names = ("num_channels", "growth_rate", "bottleneck")
    counts = [*(net.hparams[name] for name in names), *net.hparams["arch"]]
    assert counts == [8, 4, 3, 2, 1] and {type(n) for n in counts} == {int}
    assert DenseNet(**net.hparams).hparams == net.hparams


@pytest.mark.parametrize(
    "name, values, allowed",
    [
        *(
            (name, [0, -1, 2.0, True, "8", (8,)], "a whole number, 1 or more")
            for name in ("num_channels", "growth_rate", "in_channels", "bottleneck")
        ),
        ("compression", [0, -0.5, 1.1, math.nan], "0 < theta <= 1"),
        ("arch", [(), "4444", 4, None, (4, 0), (4, 2.0)], "whole numbers of 1 or more"),
        ("stem", ["resnet", None], "one of imagenet, cifar"),
        ("memory", ["lean"], "one of plain, checkpoint, shared"),
        ("pool", ["min"], "one of avg, max, stride"),
    ],
)
def test_a_wrong_argument_is_named(name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=f"expected .*{allowed}") as error:
            DenseNet(**{**SMALL, name: value})
        assert f"{name}={value!r}" in str(error.value)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (torch.zeros(2, 3, 32, 32), r"\(2, 3, 32, 32\).* shape \(N, 1, H, W\)"),
        (torch.zeros(32, 32), r"shape \(32, 32\).*expected floats of shape \(N, 1"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "uint8: expected floats"),
        (torch.zeros(2, 1, 28, 32), "28x32 pixels: 4 blocks need at least 29x29"),
    ],
)
def test_images_that_are_refused(X, words):
    with pytest.raises(ValueError, match=words):
        DenseNet()(X)


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 5), ("cifar", 2)])
def test_the_smallest_images(stem, side):
    net = DenseNet(4, 2, (1, 1), stem=stem)
    assert net(torch.zeros(2, 1, side, side)).shape == (2, 10)
    with pytest.raises(ValueError, match=f"at least {side}x{side}"):
        net(torch.zeros(2, 1, side - 1, side))


@pytest.mark.parametrize("memory", MEMORY)
def test_forward_needs_no_parameter(memory):
    """The replicas of `nn.DataParallel` have none: theirs are plain attributes."""
    torch.manual_seed(0)
    net, X = DenseNet(**SMALL, memory=memory).eval(), torch.randn(2, 1, 32, 32)
    expected = net(X)
    for module in net.modules():
        for name in list(module._parameters):
            vars(module)[name] = module._parameters.pop(name)
    assert not list(net.parameters()) and torch.equal(net(X), expected)


def test_hooks_of_stages_are_called():
    net, seen = DenseNet(**SMALL, memory="shared"), []
    for stage in (net.net.block1, net.net.transition1):
        stage.register_forward_hook(lambda *args: seen.append(args[-1].shape[1]))
    net(torch.randn(2, 1, 32, 32))
    assert seen == [12, 6]


@pytest.mark.parametrize("options", [{}, {"bottleneck": 2, "pool": "stride"}])
def test_export_with_a_free_batch_size(options):
    torch.manual_seed(0)
    net, X = DenseNet(**SMALL, **options).eval(), torch.randn(5, 1, 32, 32)
    batch = {"X": {0: torch.export.Dim("N")}}
    exported = torch.export.export(net, (X[:2],), dynamic_shapes=batch).module()
    for n in (1, 5):
        torch.testing.assert_close(exported(X[:n]), net(X[:n]))


def test_features_can_be_extracted():
    net, X = DenseNet(**SMALL).eval(), torch.randn(2, 1, 32, 32)
    nodes = {"net.block1": "block", "net.head": "logits"}
    found = create_feature_extractor(net, nodes)(X)
    assert found["block"].shape == (2, 12, 8, 8)
    torch.testing.assert_close(found["logits"], net(X))


@pytest.mark.parametrize("memory", ["checkpoint", "shared"])
def test_a_lean_network_says_why_it_cannot_be_traced(memory):
    net, X = DenseNet(**SMALL, memory=memory).eval(), torch.randn(2, 1, 32, 32)
    with pytest.raises(TypeError, match="only .* memory='plain' can be traced"):
        create_feature_extractor(net, ["net.block1"])
    with warnings.catch_warnings(), pytest.raises(TypeError, match="memory='plain'"):
        warnings.simplefilter("ignore")  # PyTorch's own, that tracing is old
        torch.jit.trace(net, X)


# The paper's networks. Table 1's counts are torchvision's too; 161 is from the authors'
# page. 264, 40-12, 100-12 and the large BC nets are closed forms, which agree with the
# millions that are quoted (1.02, 6.98, 15.3, 25.6; 0.77 for BC-100-12).
PARAMETERS = {
    "121": 7_978_856,
    "169": 14_149_480,
    "201": 20_013_928,
    "264": 33_337_704,
    "161": 28_681_000,
    "40-12": 1_019_722,
    "100-12": 6_979_642,
    "BC-100-12": 769_162,
    "BC-250-24": 15_324_406,
    "BC-190-40": 25_624_430,
}


def test_parameters_are_the_published_ones(monkeypatch):
    monkeypatch.setattr(densenet, "initialize", lambda module: None)  # no values here
    with torch.device("meta"):
        assert {n: count(DenseNet.variant(n)) for n in VARIANTS} == PARAMETERS
        assert count(DenseNet()) == count(plain_densenet()) == 758_226
        net = DenseNet.variant("BC-100-12", in_channels=1, num_classes=7)
        assert net(torch.empty(2, 1, 32, 32)).shape == (2, 7)
    with pytest.raises(ValueError, match="'122': expected one of 121, 169, 201, 264"):
        DenseNet.variant("122")


def small_torchvision():
    torch.manual_seed(0)
    return torchvision.models.DenseNet(4, (2, 1), 8, num_classes=10)


def small_densenet(**changes):
    options = {"in_channels": 3, "bottleneck": 4, "bias": False} | changes
    return DenseNet(8, 4, (2, 1), **options)


@pytest.mark.parametrize(
    "name",
    ["121", *(pytest.param(n, marks=pytest.mark.slow) for n in ("169", "201", "161"))],
)
def test_equals_torchvisions(name):
    """Logits, gradients, buffers in three steps; in evaluation after them; and back."""
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"densenet{name}")(weights=None).double()
    ours = DenseNet.variant(name).double()
    ours.load_torchvision(theirs.state_dict())
    optimizers = [torch.optim.SGD(net.parameters(), lr=1e-4) for net in (ours, theirs)]
    for _ in range(3):
        X = torch.rand(2, 3, 64, 64, dtype=torch.float64)
        assert_same_step(ours, theirs, X)
        for optimizer in optimizers:
            optimizer.step()
    assert_same_step(ours.eval(), theirs.eval(), X)
    back, expected = ours.to_torchvision(), theirs.state_dict()
    assert list(back) == list(expected)
    torch.testing.assert_close(back, expected, rtol=1e-10, atol=1e-10)
    theirs.load_state_dict(back)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: {"state_dict": net.state_dict(), "epoch": 3},
        lambda net: {"model": net.state_dict()},
        lambda net: nn.DataParallel(torch.compile(net)).state_dict(),
        lambda net: {k: v.half() for k, v in net.state_dict().items()},
        # In torchvision's files, "norm1" is "norm.1", and no batches are counted.
        lambda net: {
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
            for key, value in net.state_dict().items()
            if not key.endswith("num_batches_tracked")
        },
    ],
)
def test_weights_are_unwrapped_and_renamed(wrap):
    ours, theirs = small_densenet().eval(), small_torchvision().eval()
    ours.load_torchvision(wrap(theirs))
    X = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(X), theirs(X), rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"classifier.bias": torch.zeros(7)}, r"bias is .*\[7\].*, expected .*\[10\]"),
        ({"classifier.bias": [0.0]}, r"bias is <class 'list'>, expected .*\[10\]\)"),
        ({"classifier.bias": np.zeros(10)}, "bias is <class 'numpy.ndarray'>, exp"),
        ({"extra": torch.zeros(2)}, r"extra is .*\[2\]\), expected nothing"),
        ({"epoch": 3}, "epoch is <class 'int'>, expected nothing"),
        ({}, r"features.conv0.weight is missing, expected .*\[8, 3, 7, 7\]\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_whole(change, words):
    net, state = small_densenet(), small_torchvision().state_dict()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = change and state | change
    with pytest.raises(ValueError, match=f"^the weights do not fit: .*{words}"):
        net.load_torchvision(state)
    for key, value in net.state_dict().items():
        assert torch.equal(before[key], value), key


def test_forms_that_torchvision_does_not_have():
    words = r"^\(bottleneck, stem, bias, pool\) = .*, not \(True, 'imagenet', False, "
    changes = dict(bottleneck=None, stem="cifar", bias=True, pool="max")
    for key, value in changes.items():
        net = small_densenet(**{key: value})
        with pytest.raises(ValueError, match=words):
            net.to_torchvision()
        with pytest.raises(ValueError, match=words):
            net.load_torchvision(small_torchvision())


@pytest.mark.parametrize("arch", [map(int, "44"), {4, 6}])
def test_blocks_have_an_order_and_are_read_twice(arch):
    with pytest.raises(ValueError, match="^arch=.*: expected some whole numbers"):
        DenseNet(arch=arch)
