"""The parts of a DenseNet: layer, dense block, transition."""

import torch
from torch import Tensor, nn

from d2l_dense.checks import check_bool, check_choice, check_positive
from d2l_dense.cost import MEMORY
from d2l_dense.pools import POOLS
from d2l_dense.recompute import Lean, recompute
from d2l_dense.shared_memory import dense_block, read
from d2l_dense.take_apart import of_transition


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
    check_bool(bias=bias)
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
        memory: what is kept for the backward pass. "plain": all that autograd
            keeps, quadratic in `num_layers`; "checkpoint": each layer's output,
            all else is computed again; "shared": the output and those of the
            bottlenecks, and no convolution is computed again. The results are
            the same.

    Raises:
        ValueError: if an argument is out of range; it names what is allowed.

    Source: Huang et al. (2017), section 3, equation 2; Chen et al. (2016) and
    Pleiss et al. (2017) for `memory`. Chapter: "Dense blocks".
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
        check_positive(num_layers=num_layers)
        check_choice("memory", memory, MEMORY)
        self.memory = memory
        self.layers = nn.ModuleList()
        for _ in range(num_layers):
            self.layers.append(
                conv_block(in_channels, growth_rate, bottleneck=bottleneck, bias=bias)
            )
            in_channels += growth_rate
        self.out_channels = in_channels

    def forward(self, X: Tensor) -> Tensor:
        if self.memory == "shared":
            return dense_block(X, self.layers)
        if self.memory == "checkpoint":
            features = [X]
            for layer in self.layers:
                features.append(recompute(layer, *features))
            return torch.cat(features, dim=1)
        for layer in self.layers:
            X = torch.cat((X, layer(X)), dim=1)  # C grows by growth_rate
        return X


class TransitionBlock(Lean):
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
        pool: "avg" or "max" of 2x2 pixels; or "stride", the first of them.
        memory: "plain", or what `DenseBlock` takes: then BN, ReLU and the pooling
            are computed again in the backward pass.

    Raises:
        ValueError: if an argument is out of range; it names what is allowed.

    Source: Huang et al. (2017), section 3, "Pooling layers" and "Compression".
    Chapter: "Transition layers".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bias: bool = True,
        pool: str = "avg",
        memory: str = "plain",
    ) -> None:
        check_positive(in_channels=in_channels, out_channels=out_channels)
        check_bool(bias=bias)
        check_choice("pool", pool, POOLS)
        check_choice("memory", memory, MEMORY)
        super().__init__(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            POOLS[pool](),
            nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=bias),
        )
        self.memory = memory

    def shared(self, X: Tensor) -> Tensor:
        return read(X, [], of_transition(self))
