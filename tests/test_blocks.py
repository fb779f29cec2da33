"""d2l_dense/blocks.py: layer, dense block, transition."""

import pytest
import torch
from helpers import PlainDenseBlock, assert_same_training
from torch import nn

from d2l_dense import DenseBlock, TransitionBlock, conv_block


@pytest.mark.parametrize("bias", [True, False])
def test_layers_normalize_first_and_a_bottleneck_comes_before_3x3(bias):
    kinds = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    for bottleneck, widths in ((None, [3, 10]), (4, [3, 40, 10])):
        block = conv_block(3, 10, bottleneck=bottleneck, bias=bias)
        assert [type(layer) for layer in block] == kinds * (len(widths) - 1)
        norms, convs = block[::3], block[2::3]
        assert [norm.num_features for norm in norms] == widths[:-1]
        assert [conv.in_channels for conv in convs] == widths[:-1]
        assert [conv.out_channels for conv in convs] == widths[1:]
        assert [conv.kernel_size for conv in convs][:-1] == [(1, 1)] * (len(convs) - 1)
        assert (convs[-1].kernel_size, convs[-1].padding) == ((3, 3), (1, 1))
        assert all((conv.bias is not None) == bias for conv in convs)


def test_shapes_that_d2l_prints():
    X = torch.randn(4, 3, 8, 8)
    kept, block = X.clone(), DenseBlock(3, 2, 10)
    Y = block(X)
    assert Y.shape == (4, 23, 8, 8) and block.out_channels == 23
    assert torch.equal(X, kept) and torch.equal(Y[:, :3], kept)
    assert TransitionBlock(23, 10)(Y).shape == (4, 10, 4, 4)


@pytest.mark.parametrize("num_layers", [1, 4])
@pytest.mark.parametrize("bottleneck", [None, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_block_equals_the_plain_form(num_layers, bottleneck, bias):
    sizes, options = (5, num_layers, 3), {"bottleneck": bottleneck, "bias": bias}
    block, plain = DenseBlock(*sizes, **options), PlainDenseBlock(*sizes, **options)
    assert_same_training(block, plain, (3, 5, 6, 5))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
@pytest.mark.parametrize("pool", ["avg", "max", "stride"])
def test_a_transition_equals_the_order_of_the_paper(pool, bias, size):
    """The average is taken after the convolution; an odd row or column has no pair."""
    stride = 2 if pool == "stride" else 1
    conv = nn.Conv2d(6, 3, kernel_size=1, stride=stride, bias=bias)
    after = {"avg": [conv, nn.AvgPool2d(2)], "max": [nn.MaxPool2d(2), conv]}
    paper = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), *after.get(pool, [conv]))
    block, (h, w) = TransitionBlock(6, 3, bias=bias, pool=pool), size
    assert block(torch.randn(4, 6, *size)).shape == (4, 3, h // 2, w // 2)
    even = size if pool != "stride" else (h // 2 * 2, w // 2 * 2)
    assert_same_training(block, paper, (4, 6, *even))


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "4", None, [2], float("nan")])
@pytest.mark.parametrize(
    "name, make",
    [
        ("in_channels", lambda n: conv_block(n, 2)),
        ("growth_rate", lambda n: conv_block(3, n)),
        ("bottleneck", lambda n: conv_block(3, 2, bottleneck=n or 0)),
        ("in_channels", lambda n: DenseBlock(n, 2, 10)),
        ("num_layers", lambda n: DenseBlock(3, n, 10)),
        ("growth_rate", lambda n: DenseBlock(3, 2, n)),
        ("in_channels", lambda n: TransitionBlock(n, 10)),
        ("out_channels", lambda n: TransitionBlock(23, n)),
    ],
)
def test_what_is_no_count_is_named(name, make, value):
    with pytest.raises(ValueError, match=f"^{name}=.*: expected a whole number, 1 or"):
        make(value)


def test_what_is_none_of_the_choices_is_named():
    with pytest.raises(ValueError, match="^memory='lean': expected one of plain, che"):
        DenseBlock(3, 2, 10, memory="lean")
    with pytest.raises(ValueError, match="^pool='min': expected one of avg, max, str"):
        TransitionBlock(3, 2, pool="min")
