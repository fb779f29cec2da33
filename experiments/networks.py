"""The networks that the DenseNet of the chapter is compared with."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from d2l import torch as d2l
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from d2l_dense import DenseBlock, DenseNet, TransitionBlock, checks, conv_block
from d2l_dense.blocks import imagenet_stem
from d2l_dense.densenet import initialize
from d2l_dense.recompute import concatenate


class PostActivation(DenseNet):
    """Dense layers of convolution, BN, ReLU, as in the Julia port."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, block in self.net.named_children():
            if name.startswith("block"):
                for i, (_, relu, conv) in enumerate(block.layers):
                    norm = nn.BatchNorm2d(conv.out_channels)
                    block.layers[i] = nn.Sequential(conv, norm, relu)


class DefaultInit(DenseNet):
    """A DenseNet with the initial weights that PyTorch gives.

    D2L's own initialization comes too early to take effect, so these are D2L's too.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()


class SparseBlock(nn.Module):
    """A dense block whose layers read at most `sources` of their sources.

    The sources of a layer are the block's input and the layers before it. Which ones
    it reads is drawn once, from PyTorch's random numbers. All are handed on.

    Shape: (N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)
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
        checks.count("sources", sources)
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
            features.append(layer(concatenate([features[i] for i in drawn])))
        return concatenate(features)


class SparseDenseNet(DenseNet):
    """A DenseNet of `SparseBlock`s: another network, which the Julia port proposes."""

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
                setattr(self.net, name, sparse.apply(initialize))


class ResNet(d2l.Classifier):
    """A ResNet of ResNet-18's form: two residual blocks for each width.

    With the default widths it computes what torchvision's `resnet18` computes.

    Shape: (N, in_channels, H, W) -> (N, num_classes)

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
        self.apply(initialize)

    # Trained as a DenseNet is, so that a comparison is of networks alone.
    training_step = DenseNet.training_step
    configure_optimizers = DenseNet.configure_optimizers


def ported_block(in_channels: int, num_layers: int, growth_rate: int) -> DenseBlock:
    """The Julia port's dense block: each layer convolves first."""
    block = DenseBlock(in_channels, num_layers, growth_rate)
    for i, (_, relu, conv) in enumerate(block.layers):
        block.layers[i] = nn.Sequential(conv, nn.BatchNorm2d(growth_rate), relu)
    return block


def ported_transition(in_channels: int, out_channels: int) -> nn.Sequential:
    """The Julia port's transition: its pooling is padded, and makes 5x5 of 8x8."""
    norm, relu, _, conv = TransitionBlock(in_channels, out_channels)
    return nn.Sequential(norm, relu, conv, nn.AvgPool2d(2, stride=2, padding=1))


class PortedDenseNet(d2l.Classifier):
    """The network of the Julia port: 754,082 parameters, logits at the end.

    Its head has no batch normalization and no ReLU.

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
        stages["stem"] = imagenet_stem(in_channels, 64, bias=True)
        channels = 64
        for i, num_layers in enumerate(arch, start=1):
            stages[f"block{i}"] = block = ported_block(channels, num_layers, 32)
            channels = block.out_channels
            if i < len(arch):
                stages[f"transition{i}"] = ported_transition(channels, channels // 2)
                channels //= 2
        stages["head"] = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
        )
        self.net = nn.Sequential(stages)
