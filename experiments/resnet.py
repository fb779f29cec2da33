"""A ResNet of ResNet-18's form and any width, to compare DenseNets with."""

from collections.abc import Sequence
from typing import Any

from d2l import torch as d2l
from torch import nn
from torchvision.models.resnet import BasicBlock

from d2l_dense import DenseNet


class ResNet(d2l.Classifier):
    """A stem, four stages of two residual blocks, and a head.

    Shape: (N, in_channels, H, W) -> (N, num_classes)

    Args:
        widths: channels of each stage; the stem has those of the first.
        recipe: lr, momentum and weight_decay, as in `DenseNet`.

    With the default widths and 3 channels it is torchvision's `resnet18`, in
    another order of its names. Source: He et al. (2016), table 1.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        **recipe: Any,
    ) -> None:
        super().__init__()
        self.lr = recipe["lr"]
        self.momentum = recipe["momentum"]
        self.weight_decay = recipe["weight_decay"]
        stem = nn.Conv2d(in_channels, widths[0], 7, stride=2, padding=3, bias=False)
        layers = [stem, nn.BatchNorm2d(widths[0]), nn.MaxPool2d(3, 2, padding=1)]
        layers.append(nn.ReLU(inplace=True))
        c = widths[0]
        for stage, width in enumerate(widths):
            stride = 1 if stage == 0 else 2
            shortcut = None
            if stage > 0:
                shortcut = nn.Sequential(
                    nn.Conv2d(c, width, kernel_size=1, stride=stride, bias=False),
                    nn.BatchNorm2d(width),
                )
            layers.append(BasicBlock(c, width, stride, shortcut))
            layers.append(BasicBlock(width, width))
            c = width
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, num_classes)
        self.net = nn.Sequential(*layers, *head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    # Trained as a DenseNet is, so that a comparison is of networks alone.
    training_step = DenseNet.training_step
    configure_optimizers = DenseNet.configure_optimizers
