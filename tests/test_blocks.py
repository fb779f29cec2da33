"""d2l_dense/blocks.py: layer, dense block, transition."""

import pytest
import torch
from helpers import assert_same_training
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from d2l_dense import DenseBlock, TransitionBlock, conv_block

small = st.integers(1, 5)
not_counts = st.one_of(
    st.integers(max_value=0),
    st.booleans(),
    st.floats(),
    st.sampled_from([None, "3", (3,), [2]]),
)


class PlainDenseBlock(nn.Module):
    """A dense block as Dive into Deep Learning writes it."""

    def __init__(self, in_channels, num_layers, growth_rate):
        super().__init__()
        self.net = nn.Sequential(
            *(
                nn.Sequential(
                    nn.BatchNorm2d(in_channels + i * growth_rate),
                    nn.ReLU(),
                    nn.Conv2d(in_channels + i * growth_rate, growth_rate, 3, padding=1),
                )
                for i in range(num_layers)
            )
        )

    def forward(self, X):
        for layer in self.net:
            Y = layer(X)
            X = torch.cat((X, Y), dim=1)
        return X


def test_a_layer_normalises_first():
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
    assert Y.shape == (2, c + num_layers * k, h, w)
    assert block.out_channels == Y.shape[1]
    assert torch.equal(X, kept) and torch.equal(Y[:, :c], kept)
    widths = [layer[0].num_features for layer in block.layers]
    assert widths == [c + i * k for i in range(num_layers)]


@settings(max_examples=20)
@given(small, small, st.integers(2, 9), st.integers(2, 9))
def test_a_transition_halves_height_and_width(c, out, h, w):
    Y = TransitionBlock(c, out).eval()(torch.randn(2, c, h, w))
    assert Y.shape == (2, out, h // 2, w // 2)


@pytest.mark.parametrize(
    "in_channels, num_layers, growth_rate", [(3, 2, 10), (5, 4, 3)]
)
def test_dense_block_equals_the_plain_form(in_channels, num_layers, growth_rate):
    sizes = in_channels, num_layers, growth_rate
    shape = (3, in_channels, 6, 5)
    assert_same_training(DenseBlock(*sizes), PlainDenseBlock(*sizes), shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_transition_equals_the_order_of_the_paper(bias, size):
    paper = nn.Sequential(
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 3, kernel_size=1, bias=bias),
        nn.AvgPool2d(kernel_size=2, stride=2),
    )
    assert_same_training(TransitionBlock(6, 3, bias=bias), paper, (4, 6, *size))


@settings(max_examples=40)
@given(not_counts, st.sampled_from(["in_channels", "growth_rate", "bottleneck"]))
def test_a_layer_refuses_what_is_no_count(value, name):
    counts = {"in_channels": 3, "growth_rate": 2, "bottleneck": 4, name: value}
    if name == "bottleneck" and value is None:
        return
    with pytest.raises(ValueError, match="expected a whole number, 1 or more") as error:
        conv_block(**counts)
    assert f"{name}={value!r}" in str(error.value)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "4", None])
def test_blocks_refuse_what_is_no_count(value):
    words = rf"^num_layers={value!r}: expected a whole number, 1 or more$"
    with pytest.raises(ValueError, match=words):
        DenseBlock(3, value, 10)
    with pytest.raises(ValueError, match=f"^growth_rate={value!r}: expected"):
        DenseBlock(3, 2, value)
    with pytest.raises(ValueError, match=f"^in_channels={value!r}: expected"):
        DenseBlock(value, 2, 10)
    with pytest.raises(ValueError, match=f"^in_channels={value!r}: expected"):
        TransitionBlock(value, 10)
    with pytest.raises(ValueError, match=f"^out_channels={value!r}: expected"):
        TransitionBlock(23, value)
