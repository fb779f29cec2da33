"""The parts of a DenseNet: layer, dense block, transition."""

from collections.abc import Callable
from math import isfinite
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn


def is_count(value: Any) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_positive(**arguments: int) -> None:
    """Raise a ValueError that names the first argument not a whole number > 0."""
    for name, value in arguments.items():
        if not is_count(value):
            raise ValueError(f"{name}={value!r}: expected a whole number, 1 or more")


def check_number(
    name: str, value: float, fits: Callable[[float], bool], allowed: str
) -> None:
    """Raise a ValueError that names an argument not a finite number that fits."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not isfinite(value) or not fits(value):
        raise ValueError(f"{name}={value!r}: expected {allowed}")


def conv_block(
    in_channels: int,
    growth_rate: int,
    *,
    bottleneck: int | None = None,
    bias: bool = True,
) -> nn.Sequential:
    """One layer of a dense block: BN, ReLU, 3x3 convolution (pre-activation).

    With a bottleneck, a BN, ReLU and 1x1 convolution come first and hand on
    `bottleneck * growth_rate` channels.

    Shape: (N, in_channels, H, W) -> (N, growth_rate, H, W)

    Args:
        in_channels: channels of the input.
        growth_rate: channels of the output (k in the paper).
        bottleneck: width of the 1x1 convolution, in multiples of `growth_rate`
            (4 in the paper); None leaves it out.
        bias: whether the convolutions have a bias. Each reaches the loss only
            through a later batch normalization, which takes the bias away.

    Raises:
        ValueError: if a count is not a positive whole number.

    Source: Huang et al. (2017), section 3, "Composite function" and
    "Bottleneck layers". Chapter: "Dense blocks".
    """
    check_positive(in_channels=in_channels, growth_rate=growth_rate)
    layers: list[nn.Module] = []
    if bottleneck is not None:
        check_positive(bottleneck=bottleneck)
        width = bottleneck * growth_rate
        layers += [
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, width, kernel_size=1, bias=bias),
        ]
        in_channels = width
    layers += [
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, growth_rate, kernel_size=3, padding=1, bias=bias),
    ]
    return nn.Sequential(*layers)


class DenseBlock(nn.Module):
    """Concatenate the output of every layer onto all that came before it.

    Shape: (N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)

    Args:
        in_channels: channels of the input (C).
        num_layers: number of layers.
        growth_rate: channels that each layer adds (k in the paper).
        bottleneck, bias: as in `conv_block`.

    Raises:
        ValueError: if a count is not a positive whole number.

    Source: Huang et al. (2017), section 3, equation 2. Chapter: "Dense blocks".
    """

    def __init__(
        self,
        in_channels: int,
        num_layers: int,
        growth_rate: int,
        *,
        bottleneck: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive(num_layers=num_layers)
        self.layers = nn.ModuleList()
        for _ in range(num_layers):
            self.layers.append(
                conv_block(in_channels, growth_rate, bottleneck=bottleneck, bias=bias)
            )
            in_channels += growth_rate
        self.out_channels = in_channels

    def forward(self, X: Tensor) -> Tensor:
        for layer in self.layers:
            X = torch.cat((X, layer(X)), dim=1)  # C grows by growth_rate
        return X


class TransitionBlock(nn.Sequential):
    """Narrow the features to `out_channels` and halve their height and width.

    Average pooling and a 1x1 convolution may change places: both take weighted
    sums, one over pixels and the other over channels. The paper writes the
    convolution first; here it comes last, on a quarter of the pixels, with equal
    outputs.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H // 2, W // 2)

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: whether the convolution has a bias.

    Raises:
        ValueError: if a count is not a positive whole number.

    Source: Huang et al. (2017), section 3, "Pooling layers" and "Compression".
    Chapter: "Transition layers".
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, bias: bool = True
    ) -> None:
        check_positive(in_channels=in_channels, out_channels=out_channels)
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(kernel_size=2, stride=2),
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=bias),
        )
