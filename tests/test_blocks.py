"""d2l_dense/blocks.py: layer, dense block, transition."""

import numpy as np
import pytest
import torch
from helpers import PlainDenseBlock, assert_same_training
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from d2l_dense import DenseBlock, TransitionBlock, conv_block

small = st.integers(1, 5)


def test_a_layer_normalizes_first():
    norm, relu, conv = conv_block(3, 10)
    assert isinstance(norm, nn.BatchNorm2d) and norm.num_features == 3
    assert isinstance(relu, nn.ReLU)
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    assert (conv.in_channels, conv.out_channels) == (3, 10)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))


def test_a_bottleneck_comes_before_the_3x3_convolution():
    kinds = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d] * 2
    block = conv_block(3, 10, bottleneck=4, bias=False)
    assert [type(layer) for layer in block] == kinds
    narrow, wide = block[2], block[5]
    assert (narrow.in_channels, narrow.out_channels) == (3, 40)
    assert (wide.in_channels, wide.out_channels) == (40, 10)
    assert narrow.kernel_size == (1, 1) and wide.kernel_size == (3, 3)
    assert narrow.bias is None and wide.bias is None


def test_shapes_that_d2l_prints():
    X = torch.randn(4, 3, 8, 8)
    block = DenseBlock(3, 2, 10)
    Y = block(X)
    assert Y.shape == (4, 23, 8, 8) and block.out_channels == 23
    assert TransitionBlock(23, 10)(Y).shape == (4, 10, 4, 4)


@settings(max_examples=30)
@given(small, small, small, st.none() | small, st.integers(1, 7), st.integers(1, 7))
def test_a_dense_block_keeps_its_input_and_adds_to_it(c, num_layers, k, b, h, w):
    block = DenseBlock(c, num_layers, k, bottleneck=b).eval()
    X = torch.randn(2, c, h, w)
    kept = X.clone()
    with torch.no_grad():
        Y = block(X)
    assert Y.shape == (2, c + num_layers * k, h, w) and block.out_channels == Y.shape[1]
    assert torch.equal(X, kept) and torch.equal(Y[:, :c], kept)
    widths = [layer[0].num_features for layer in block.layers]
    assert widths == [c + i * k for i in range(num_layers)]


@pytest.mark.parametrize("bottleneck", [None, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_block_equals_the_plain_form(bottleneck, bias):
    sizes, options = (5, 4, 3), {"bottleneck": bottleneck, "bias": bias}
    block, plain = DenseBlock(*sizes, **options), PlainDenseBlock(*sizes, **options)
    assert_same_training(block, plain, (3, 5, 6, 5))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_a_transition_equals_the_order_of_the_paper(bias, size):
    paper = nn.Sequential(
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 3, kernel_size=1, bias=bias),
        nn.AvgPool2d(kernel_size=2, stride=2),
    )
    assert_same_training(TransitionBlock(6, 3, bias=bias), paper, (4, 6, *size))


@pytest.mark.parametrize("pool", ["max", "stride"])
def test_other_poolings(pool):
    conv = nn.Conv2d(6, 3, kernel_size=1, stride=2 if pool == "stride" else 1)
    paper = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), conv)
    if pool == "max":
        paper.insert(2, nn.MaxPool2d(2))
    assert_same_training(TransitionBlock(6, 3, pool=pool), paper, (4, 6, 8, 6))
    odd = torch.randn(4, 6, 7, 5)  # the last row and column have no pair
    assert TransitionBlock(6, 3, pool=pool)(odd).shape == (4, 3, 3, 2)


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


def test_numpys_integers_are_counts():
    block = DenseBlock(*np.array([3, 2, 4]), bottleneck=np.int64(2))
    assert block.out_channels == 11 and type(block.out_channels) is int
    assert TransitionBlock(*np.array([11, 5]))(torch.randn(2, 11, 4, 4)).shape[1] == 5
