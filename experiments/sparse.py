"""Exercise 3: what if a layer reads only some of those before it, drawn at random?

The Julia port proposes it, to save memory. Each layer of this network reads
`sources` of its sources, drawn once, before training. It is another network, not
another way to compute the same one: `memory` measures what it saves, and this
experiment trains it as the DenseNet of exercise 2 (`parameters`) is trained.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2l_dense import DenseNet, records
from d2l_dense.blocks import conv_block
from d2l_dense.checks import check_positive
from d2l_dense.stems import initialise
from experiments import parameters
from experiments.training import Run, train


class SparseBlock(nn.Module):
    """A dense block whose layers read at most `sources` of their sources.

    The sources of a layer are the block's input and the layers before it. Which
    ones it reads is drawn from PyTorch's random numbers. All are handed on.

    Shape: (N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)

    Args:
        in_channels, num_layers, growth_rate, bottleneck, bias: as in `DenseBlock`.
        sources: how many a layer reads, if it has so many.
    """

    def __init__(
        self,
        in_channels: int,
        num_layers: int,
        growth_rate: int,
        *,
        sources: int,
        bottleneck: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_positive(num_layers=num_layers, sources=sources)
        options = {"bottleneck": bottleneck, "bias": bias}
        channels = [in_channels] + num_layers * [growth_rate]
        self.read: list[list[int]] = []  # by each layer; 0 is the block's input
        self.layers = nn.ModuleList()
        for i in range(1, 1 + num_layers):
            drawn = torch.randperm(i)[:sources].sort().values.tolist()
            width = sum(channels[source] for source in drawn)
            self.read.append(drawn)
            self.layers.append(conv_block(width, growth_rate, **options))
        self.out_channels = sum(channels)

    def forward(self, X: Tensor) -> Tensor:
        features = [X]
        for layer, drawn in zip(self.layers, self.read, strict=True):
            features.append(layer(_concatenate([features[i] for i in drawn])))
        return _concatenate(features)


class SparseDenseNet(DenseNet):
    """A DenseNet of `SparseBlock`s. Shape: as `DenseNet`."""

    def __init__(self, *args: Any, sources: int, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, block in self.net.named_children():
            if name.startswith("block"):
                added = len(block.layers) * self.growth_rate
                sparse = SparseBlock(
                    block.out_channels - added,
                    len(block.layers),
                    self.growth_rate,
                    sources=sources,
                    bottleneck=self.bottleneck,
                    bias=self.bias,
                )
                setattr(self.net, name, sparse.apply(initialise))


def _concatenate(features: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(features), dim=1) if len(features) > 1 else features[0]


_DENSE = parameters.ARMS["densenet"]
ARMS: dict[str, dict[str, Any]] = {
    "two_sources": _DENSE | {"model": _DENSE["model"] | {"sources": 2}}
}


def execute(run: Run) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
    return train(run, SparseDenseNet, ARMS[run.arm])
