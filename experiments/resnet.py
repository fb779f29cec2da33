"""A ResNet of ResNet-18's form and any width, to compare DenseNets with."""

from collections.abc import Sequence

from d2l import torch as d2l
from torch import nn
from torchvision.models.resnet import BasicBlock

from d2l_dense.densenet import DenseNet
from d2l_dense.stems import imagenet_stem, initialise


class ResNet(d2l.Classifier):
    """A stem, a stage of two residual blocks for each width, and a head.

    Shape: (N, in_channels, H, W) -> (N, num_classes)

    Args:
        widths: channels of each stage; the stem has those of the first.
        lr, num_classes, in_channels, momentum, weight_decay: as in `DenseNet`.

    With the default widths it computes what torchvision's `resnet18` computes.
    Source: He et al. (2016), table 1.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        lr: float = 0.1,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        c = widths[0]
        layers: list[nn.Module] = [imagenet_stem(in_channels, c, bias=False)]
        layers += [BasicBlock(c, c), BasicBlock(c, c)]
        for width in widths[1:]:
            shortcut = nn.Sequential(
                nn.Conv2d(c, width, kernel_size=1, stride=2, bias=False),
                nn.BatchNorm2d(width),
            )
            layers.append(BasicBlock(c, width, stride=2, downsample=shortcut))
            layers.append(BasicBlock(width, width))
            c = width
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, num_classes)
        self.net = nn.Sequential(*layers, *head)
        self.apply(initialise)

    # Trained as a DenseNet is, so that a comparison is of networks alone.
    training_step = DenseNet.training_step
    configure_optimizers = DenseNet.configure_optimizers
