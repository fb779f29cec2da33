"""The Julia port's network, composed from our parts, to compare with.

It differs from D2L's in four places: a layer convolves first (convolution, BN,
ReLU), transitions pool with a padding of 1, and the head has no BN and ReLU.
"""

from collections import OrderedDict
from collections.abc import Sequence

from d2l import torch as d2l
from torch import nn

from d2l_dense import DenseBlock, TransitionBlock


def dense_block(in_channels: int, num_layers: int, growth_rate: int) -> DenseBlock:
    """A dense block of post-activation layers.

    Shape: (N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)
    """
    block = DenseBlock(in_channels, num_layers, growth_rate)
    for i, (_, relu, conv) in enumerate(block.layers):
        block.layers[i] = nn.Sequential(conv, nn.BatchNorm2d(growth_rate), relu)
    return block


def transition_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """A transition whose pooling is padded: 8x8 becomes 5x5, not 4x4.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H // 2 + 1, W // 2 + 1)
    """
    norm, relu, _, conv = TransitionBlock(in_channels, out_channels)
    return nn.Sequential(norm, relu, conv, nn.AvgPool2d(2, stride=2, padding=1))


class PortedDenseNet(d2l.Classifier):
    """The network of D2L's Julia port: 754,082 parameters, logits at the end.

    Shape: (N, in_channels, H, W) -> (N, num_classes)
    """

    def __init__(
        self,
        arch: Sequence[int] = (4, 4, 4, 4),
        lr: float = 0.1,
        in_channels: int = 1,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        stages["stem"] = nn.Sequential(
            nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        channels = 64
        for i, num_layers in enumerate(arch, start=1):
            stages[f"block{i}"] = block = dense_block(channels, num_layers, 32)
            channels = block.out_channels
            if i < len(arch):
                stages[f"transition{i}"] = transition_block(channels, channels // 2)
                channels //= 2
        stages["head"] = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
        )
        self.net = nn.Sequential(stages)
