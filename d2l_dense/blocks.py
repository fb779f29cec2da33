"""The parts of a DenseNet: stem, layer, dense block, transition."""

from functools import partial

import torch
from torch import Tensor, nn

from d2l_dense import checks
from d2l_dense.recompute import MEMORY, concatenate, recompute, shared_layer


def conv_block(
    in_channels: int, growth_rate: int, *, bottleneck: int | None = None, bias=True
) -> nn.Sequential:
    """One layer of a dense block: BN, ReLU, 3x3 convolution (pre-activation).

    Args:
        growth_rate: channels of the output (k in the paper).
        bottleneck: put a BN, ReLU and 1x1 convolution first, whose width is this
            many times `growth_rate` (4 in the paper); None leaves them out.
    Shape: (N, in_channels, H, W) -> (N, growth_rate, H, W)
    Source: Huang et al. (2017), section 3. Chapter: "Dense blocks".
    """
    in_channels = checks.count("in_channels", in_channels)
    growth_rate = checks.count("growth_rate", growth_rate)
    layers = []
    if bottleneck is not None:
        width = checks.count("bottleneck", bottleneck) * growth_rate
        layers += [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(in_channels, width, kernel_size=1, bias=bias))
        in_channels = width
    layers += [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)]
    conv = nn.Conv2d(in_channels, growth_rate, kernel_size=3, padding=1, bias=bias)
    return nn.Sequential(*layers, conv)


class DenseBlock(nn.Module):
    """Concatenate the output of every layer onto all that came before it.

    Args:
        growth_rate, bottleneck, bias: as in `conv_block`.
        memory: what is kept for the backward pass. "plain": all that autograd keeps,
            quadratic in `num_layers`; "checkpoint": the features; "shared": these and
            the bottlenecks' outputs, so that no convolution is computed twice.
    Shape: (N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)
    Source: Huang et al. (2017), equation 2. Chapter: "Dense blocks".
    """

    def __init__(
        self,
        in_channels: int,
        num_layers: int,
        growth_rate: int,
        *,
        bottleneck: int | None = None,
        bias: bool = True,
        memory: str = "plain",
    ) -> None:
        super().__init__()
        self.memory = checks.choice("memory", memory, MEMORY)
        self.layers, options = nn.ModuleList(), {"bottleneck": bottleneck, "bias": bias}
        self.out_channels = checks.count("in_channels", in_channels)
        for _ in range(checks.count("num_layers", num_layers)):
            self.layers.append(conv_block(self.out_channels, growth_rate, **options))
            self.out_channels += int(growth_rate)

    def forward(self, X: Tensor) -> Tensor:
        if self.memory == "plain":
            for layer in self.layers:
                X = torch.cat((X, layer(X)), dim=1)  # growth_rate more channels
            return X
        apply = shared_layer if self.memory == "shared" else recompute
        features = [X]
        for layer in self.layers:
            features.append(apply(layer, *features))
        return concatenate(features)


POOLINGS = {
    "avg": partial(nn.AvgPool2d, kernel_size=2),
    "max": partial(nn.MaxPool2d, kernel_size=2),
    "stride": partial(nn.Upsample, scale_factor=0.5),  # the first of 2x2 pixels
}


class TransitionBlock(nn.Sequential):
    """Narrow the features to `out_channels` and halve their height and width.

    Average pooling and a 1x1 convolution may change places: both take weighted sums.
    The convolution, first in the paper, is last here, on a quarter of the pixels.

    Args:
        pool: "avg" or "max" of 2x2 pixels; or "stride", the first of them.
    Shape: (N, in_channels, H, W) -> (N, out_channels, H // 2, W // 2)
    Source: Huang et al. (2017), section 3. Chapter: "Transition layers".
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, bias=True, pool="avg"
    ) -> None:
        in_channels = checks.count("in_channels", in_channels)
        out_channels = checks.count("out_channels", out_channels)
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            POOLINGS[checks.choice("pool", pool, POOLINGS)](),
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=bias),
        )


def imagenet_stem(in_channels: int, num_channels: int, bias: bool) -> nn.Sequential:
    """A quarter of the side: (N, in_channels, H, W) -> (N, num_channels, H/4, W/4)."""
    # ReLU and the maximum may change places: after it, ReLU has a quarter of the work.
    return nn.Sequential(
        nn.Conv2d(in_channels, num_channels, 7, stride=2, padding=3, bias=bias),
        nn.BatchNorm2d(num_channels),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    )


def cifar_stem(in_channels: int, num_channels: int, bias: bool) -> nn.Sequential:
    """A 3x3 convolution: (N, in_channels, H, W) -> (N, num_channels, H, W)."""
    return nn.Sequential(nn.Conv2d(in_channels, num_channels, 3, padding=1, bias=bias))


STEMS = {"imagenet": imagenet_stem, "cifar": cifar_stem}
