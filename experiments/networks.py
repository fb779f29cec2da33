"""The networks that those of the chapter are compared with."""

from typing import Any

import torch
from d2l import torch as d2l
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from d2l_dense import DenseMLP, DenseNet, checks, conv_block
from d2l_dense.blocks import imagenet_stem
from d2l_dense.densenet import initialize
from d2l_dense.recompute import concatenate


def post_activation(**options: Any) -> DenseNet:
    """A DenseNet whose dense layers are convolution, BN, ReLU, as in the Julia port."""
    net = DenseNet(**options)
    for name, block in net.net.named_children():
        if name.startswith("block"):
            for i, (_, relu, conv) in enumerate(block.layers):
                norm = nn.BatchNorm2d(conv.out_channels)
                block.layers[i] = nn.Sequential(conv, norm, relu)
    return net


def default_init(**options: Any) -> DenseNet:
    """A DenseNet with PyTorch's initial weights; D2L's own come too early to count."""
    net = DenseNet(**options)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    return net


class SparseBlock(nn.Module):
    """A dense block whose layers read at most `sources` of their sources.

    The sources of a layer, the block's input and the layers before it, are drawn once,
    from PyTorch's random numbers. All are handed on.

    Shape: (N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)
    """

    def __init__(
        self, in_channels: int, num_layers: int, growth_rate: int, sources: int, **layer
    ) -> None:
        super().__init__()
        checks.count("sources", sources)
        channels = [in_channels] + num_layers * [growth_rate]
        self.read: list[list[int]] = []  # by each layer; 0 is the block's input
        self.layers = nn.ModuleList()
        for i in range(1, 1 + num_layers):
            drawn = torch.randperm(i)[:sources].sort().values.tolist()
            width = sum(channels[source] for source in drawn)
            self.read.append(drawn)
            self.layers.append(conv_block(width, growth_rate, **layer))

    def forward(self, X: Tensor) -> Tensor:
        features = [X]
        for layer, drawn in zip(self.layers, self.read, strict=True):
            features.append(layer(concatenate([features[i] for i in drawn])))
        return concatenate(features)


def sparse_densenet(sources: int, **options: Any) -> DenseNet:
    """A DenseNet of `SparseBlock`s: another network, which the Julia port proposes."""
    net = DenseNet(**options)
    k, layer = net.growth_rate, {"bottleneck": net.bottleneck, "bias": net.bias}
    for name, block in net.net.named_children():
        if name.startswith("block"):
            n = len(block.layers)
            sparse = SparseBlock(block.out_channels - n * k, n, k, sources, **layer)
            setattr(net.net, name, sparse.apply(initialize))
    return net


class ResNet(d2l.Classifier):
    """A ResNet of ResNet-18's form (He et al., 2016): two residual blocks a width.

    Shape: (N, in_channels, H, W) -> (N, num_classes)
    """

    def __init__(
        self,
        widths=(64, 128, 256, 512),
        num_classes=10,
        in_channels=1,
        **options: float,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        vars(self).update(options)  # lr, momentum, weight_decay
        c = widths[0]
        self.net = imagenet_stem(in_channels, c, bias=False)
        self.net.extend([BasicBlock(c, c), BasicBlock(c, c)])
        for width in widths[1:]:
            conv = nn.Conv2d(c, width, kernel_size=1, stride=2, bias=False)
            shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))
            self.net.append(BasicBlock(c, width, stride=2, downsample=shortcut))
            self.net.append(BasicBlock(width, width))
            c = width
        self.net.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten()])
        self.net.append(nn.Linear(c, num_classes))
        self.apply(initialize)

    # Trained as a DenseNet is, so that a comparison is of networks alone.
    training_step = DenseNet.training_step
    configure_optimizers = DenseNet.configure_optimizers


class MLP(d2l.Module):
    """A perceptron of one width, plain or residual, to compare with `DenseMLP`.

    A residual one compresses the input linearly, then adds to it layer by layer.

    Shape: (N, num_inputs) -> (N, 1)
    """

    def __init__(
        self, num_inputs, width, num_layers, residual, dropout, **options: float
    ) -> None:
        super().__init__()
        self.residual = residual
        vars(self).update(options)  # lr, weight_decay, l1, beta
        self.stem = nn.Linear(num_inputs, width) if residual else nn.Identity()
        self.layers = nn.ModuleList()
        for i in range(num_layers):
            linear = nn.Linear(width if i or residual else num_inputs, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            self.layers.append(nn.Sequential(linear, nn.ReLU(), nn.Dropout(dropout)))
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, X: Tensor) -> Tensor:
        X = self.stem(X)
        for layer in self.layers:
            X = X + layer(X) if self.residual else layer(X)  # (N, width)
        return self.head(X)

    # Trained as a DenseMLP is, so that a comparison is of networks alone.
    loss = DenseMLP.loss
    validation_step = DenseMLP.validation_step
    training_step = DenseMLP.training_step
    configure_optimizers = DenseMLP.configure_optimizers


def perceptron(arm: str, d: int, settings: dict[str, Any]) -> d2l.Module:
    """The network of an arm of exercise 5, for d inputs.

    Its width is the one that comes nearest to a number of parameters: that in the
    settings, or else that of a dense MLP of the settings' growth rate.
    """
    kind, options = arm.split("_")[0], dict(settings)
    n, k = options.pop("num_layers"), options.pop("growth_rate", None)
    budget = options.pop("parameters", None) or dense_parameters(d, k, n)
    arch = (n,) if n else ()

    def parameters(width: int) -> int:
        if kind in ("dense", "linear"):
            return dense_parameters(d, width, n)
        if kind == "stem":
            return (d + 1) * width + dense_parameters(width, k, n)
        squares = n if kind == "residual" else n - 1
        return (d + 1) * width + squares * (width + 1) * width + width + 1

    width = min(range(1, 257), key=lambda width: abs(parameters(width) - budget))
    if kind in ("dense", "linear"):
        return DenseMLP(d, width, arch, **options)
    if kind == "stem":
        return DenseMLP(d, k, arch, stem=width, **options)
    return MLP(d, width, n, kind == "residual", **options)


def dense_parameters(d: int, k: int, num_layers: int) -> int:
    """Parameters of a dense MLP of one block: layer i reads d + (i - 1) k features."""
    layers = sum((d + i * k + 1) * k for i in range(num_layers))
    return layers + d + num_layers * k + 1
