"""Two details of the chapter's model: the order in a layer, and how weights begin.

`post_activation` puts batch normalisation and ReLU after the convolution, as the
Julia port does. `default_init` leaves PyTorch's initial weights, as D2L's code
does, whose own initialisation comes too early to take effect. The baseline is the
DenseNet of exercise 2 (`parameters`).
"""

from typing import Any

from torch import nn

from d2l_dense import DenseNet, records
from experiments import parameters
from experiments.training import Run, train


class PostActivation(DenseNet):
    """Dense layers of convolution, BN, ReLU. Shape: as `DenseNet`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, block in self.net.named_children():
            if name.startswith("block"):
                for i, (_, relu, conv) in enumerate(block.layers):
                    norm = nn.BatchNorm2d(conv.out_channels)
                    block.layers[i] = nn.Sequential(conv, norm, relu)


class DefaultInit(DenseNet):
    """With the initial weights that PyTorch gives. Shape: as `DenseNet`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()


NETWORKS: dict[str, type[DenseNet]] = {
    "post_activation": PostActivation,
    "default_init": DefaultInit,
}
ARMS: dict[str, dict[str, Any]] = {arm: parameters.ARMS["densenet"] for arm in NETWORKS}


def execute(run: Run) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
    return train(run, NETWORKS[run.arm], ARMS[run.arm])
