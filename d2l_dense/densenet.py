"""The whole network, and the networks of the paper."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torchvision
from d2l import torch as d2l
from torch import Tensor, nn

from d2l_dense import checks
from d2l_dense.blocks import POOLINGS, STEMS, DenseBlock, TransitionBlock
from d2l_dense.recompute import MEMORY, recompute

_IMAGENET = {"bottleneck": 4, "bias": False, "in_channels": 3, "num_classes": 1000}
_CIFAR = {"stem": "cifar", "bias": False, "in_channels": 3, "num_classes": 10}
_PLAIN = {**_CIFAR, "num_channels": 16, "growth_rate": 12, "compression": 1.0}
_BC = {**_CIFAR, "bottleneck": 4}

# Arguments of `DenseNet`. 121 to 264 are the paper's Table 1, 161 is from the
# authors' page, the others are the paper's networks for CIFAR (L-k and BC-L-k).
VARIANTS: dict[str, dict[str, Any]] = {
    "121": dict(_IMAGENET, arch=(6, 12, 24, 16)),
    "169": dict(_IMAGENET, arch=(6, 12, 32, 32)),
    "201": dict(_IMAGENET, arch=(6, 12, 48, 32)),
    "264": dict(_IMAGENET, arch=(6, 12, 64, 48)),
    "161": dict(_IMAGENET, arch=(6, 12, 36, 24), num_channels=96, growth_rate=48),
    "40-12": dict(_PLAIN, arch=(12, 12, 12)),
    "100-12": dict(_PLAIN, arch=(32, 32, 32)),
    "BC-100-12": dict(_BC, arch=(16, 16, 16), num_channels=24, growth_rate=12),
    "BC-250-24": dict(_BC, arch=(41, 41, 41), num_channels=48, growth_rate=24),
    "BC-190-40": dict(_BC, arch=(31, 31, 31), num_channels=80, growth_rate=40),
}


class DenseNet(d2l.Classifier):
    """A stem, dense blocks with transitions between them, and a head.

    The five positional arguments and the default, of 758,226 parameters, are D2L's.

    Args:
        num_channels: channels after the stem.
        growth_rate, bottleneck, bias: as in `conv_block`.
        arch: number of layers of each dense block.
        compression: share of the channels that a transition keeps (theta).
        pool: as in `TransitionBlock`.
        memory: as in `DenseBlock`; unless "plain", the other stages are checkpointed.
        stem: "imagenet", 7x7 convolution and max pooling, a quarter of the side;
            or "cifar", a 3x3 convolution that keeps it.
        momentum: Nesterov momentum of the optimizer; 0 is plain SGD.
    Shape: (N, in_channels, H, W) -> (N, num_classes)
    Source: Huang et al. (2017), sections 3 and 4.2. Chapter: "The model".
    """

    def __init__(
        self,
        num_channels: int = 64,
        growth_rate: int = 32,
        arch: Sequence[int] = (4, 4, 4, 4),
        lr: float = 0.1,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        bottleneck: int | None = None,
        compression: float = 0.5,
        pool: str = "avg",
        memory: str = "plain",
        bias: bool = True,
        stem: str = "imagenet",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_arguments(self.hparams)

        stages = OrderedDict(stem=STEMS[stem](in_channels, num_channels, bias))
        channels = num_channels
        options = {"bottleneck": bottleneck, "bias": bias, "memory": memory}
        for i, num_layers in enumerate(arch, start=1):
            block = DenseBlock(channels, num_layers, growth_rate, **options)
            stages[f"block{i}"], channels = block, block.out_channels
            if i < len(arch):
                narrow = int(channels * compression)
                transition = TransitionBlock(channels, narrow, bias=bias, pool=pool)
                stages[f"transition{i}"], channels = transition, narrow
        stages["head"] = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )
        self.net = nn.Sequential(stages)
        self.apply(initialize)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits of a batch of images."""
        traced = torch.jit.is_tracing() or isinstance(X, torch.fx.Proxy)
        if traced and self.memory != "plain":
            raise TypeError("only a network with memory='plain' can be traced")
        _check_images(X, self.in_channels, len(self.arch), self.stem)
        for stage in self.net:
            lean = self.memory != "plain" and not isinstance(stage, DenseBlock)
            X = recompute(stage, X) if lean else stage(X)
        return X

    @classmethod
    def variant(cls, name: str, **overrides: Any) -> "DenseNet":
        """Return a network of `VARIANTS`; `overrides` are arguments of `DenseNet`."""
        return cls(**VARIANTS[checks.choice("variant", name, VARIANTS)] | overrides)

    def load_torchvision(self, weights: Mapping[str, Any] | nn.Module) -> None:
        """Load the weights of `torchvision.models.densenet*`, all or none of them.

        They are its network or `state_dict()`, also under the older names of its files,
        of a wrapper (DataParallel, compile), or below a key "state_dict" or "model".
        """
        if isinstance(weights, nn.Module):
            weights = weights.state_dict()
        weights = weights.get("state_dict", weights.get("model", weights))
        own = self.to_torchvision()
        found = {k: count for k, count in own.items() if k.endswith("batches_tracked")}
        for key, value in weights.items():
            key = re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key)  # older files
            found[re.sub(r"^(module\.|_orig_mod\.)+", "", key)] = value
        theirs, ours = (
            {k: v.shape if isinstance(v, Tensor) else type(v) for k, v in state.items()}
            for state in (found, own)
        )
        for key in ours | theirs:
            is_, expected = theirs.get(key, "missing"), ours.get(key, "nothing")
            if is_ != expected:
                text = f"the weights do not fit: {key} is {is_}, expected {expected}"
                raise ValueError(f"{text}, as in torchvision's network of this depth")
        names = zip(self.state_dict(), own, strict=True)
        self.load_state_dict({name: found[their_name] for name, their_name in names})

    def to_torchvision(self) -> dict[str, Tensor]:
        """Return the weights under torchvision's names, for its `load_state_dict`."""
        own = self.bottleneck is not None, self.stem, self.bias, self.pool
        if own != (needed := (True, "imagenet", False, "avg")):
            raise ValueError(f"(bottleneck, stem, bias, pool) = {own}, not {needed}")
        with torch.device("meta"):  # for its names alone, in the order of the layers
            theirs = torchvision.models.DenseNet(block_config=self.arch).state_dict()
        return dict(zip(theirs, self.state_dict().values(), strict=True))

    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        """Report loss and accuracy of a batch (X, y); return the loss."""
        Y_hat = self(*batch[:-1])  # (N, num_classes)
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=True)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Stochastic gradient descent with what the constructor was given."""
        options = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        options["nesterov"] = self.momentum > 0
        return torch.optim.SGD(self.parameters(), self.lr, **options)


@torch.fx.wrap  # a tracer, such as torchvision's feature extractor's, skips it
def _check_images(X, in_channels, num_blocks, stem):
    if X.ndim != 4 or X.shape[1] != in_channels or not X.is_floating_point():
        expected = f"expected floats of shape (N, {in_channels}, H, W)"
        raise ValueError(f"images of shape {tuple(X.shape)}, {X.dtype}: {expected}")
    smallest = 2 ** (num_blocks - 1) if stem == "cifar" else 2 ** (num_blocks + 1) - 3
    if min(X.shape[2:]) < smallest:
        found = f"images of {X.shape[2]}x{X.shape[3]} pixels"
        needed = f"{num_blocks} blocks need at least {smallest}x{smallest}"
        raise ValueError(f"{found}: {needed}; resize them, or give `arch` fewer")


def check_arguments(net: dict[str, Any]) -> None:
    """Refuse wrong arguments of a network; make NumPy's integers Python's own."""
    for name in ("num_channels", "growth_rate", "num_classes", "in_channels"):
        net[name] = checks.count(name, net[name])
    net["arch"] = checks.counts("arch", net["arch"])
    net["bottleneck"] = checks.count("bottleneck", net["bottleneck"], optional=True)
    for name, choices in {"pool": POOLINGS, "stem": STEMS, "memory": MEMORY}.items():
        checks.choice(name, net[name], choices)
    checks.share("compression", net["compression"])


def initialize(module: nn.Module) -> None:
    """Start a layer as He et al. (2015) do; the paper, section 4.2."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
