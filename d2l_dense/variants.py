"""The paper's networks, and torchvision's names for their weights."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_IMAGENET = {"bottleneck": 4, "bias": False, "in_channels": 3, "num_classes": 1000}
_WIDE = {**_IMAGENET, "num_channels": 96, "growth_rate": 48}
_CIFAR = {"stem": "cifar", "bias": False, "in_channels": 3, "num_classes": 10}
_PLAIN = {**_CIFAR, "num_channels": 16, "growth_rate": 12, "compression": 1.0}
_BC = {**_CIFAR, "bottleneck": 4}

# Arguments of `DenseNet`. 121 to 264 are the paper's Table 1, 161 is from the
# authors' page, the others are the paper's networks for CIFAR (L-k and BC-L-k).
VARIANTS: dict[str, dict[str, Any]] = {
    "121": {**_IMAGENET, "arch": (6, 12, 24, 16)},
    "169": {**_IMAGENET, "arch": (6, 12, 32, 32)},
    "201": {**_IMAGENET, "arch": (6, 12, 48, 32)},
    "264": {**_IMAGENET, "arch": (6, 12, 64, 48)},
    "161": {**_WIDE, "arch": (6, 12, 36, 24)},
    "40-12": {**_PLAIN, "arch": (12, 12, 12)},
    "100-12": {**_PLAIN, "arch": (32, 32, 32)},
    "BC-100-12": {**_BC, "arch": (16, 16, 16), "num_channels": 24, "growth_rate": 12},
    "BC-250-24": {**_BC, "arch": (41, 41, 41), "num_channels": 48, "growth_rate": 24},
    "BC-190-40": {**_BC, "arch": (31, 31, 31), "num_channels": 80, "growth_rate": 40},
}


def torchvision_names(keys: Iterable[str], arch: Sequence[int]) -> Iterator[str]:
    """Yield torchvision's name for each key of `DenseNet.state_dict()`.

    Only the names of networks with a bottleneck exist there.
    """
    modules = {"net.stem.0": "features.conv0", "net.stem.1": "features.norm0"}
    parts = {0: "norm1", 2: "conv1", 3: "norm2", 5: "conv2"}
    for i, num_layers in enumerate(arch, start=1):
        for j in range(num_layers):
            for index, part in parts.items():
                ours = f"net.block{i}.layers.{j}.{index}"
                modules[ours] = f"features.denseblock{i}.denselayer{j + 1}.{part}"
        modules[f"net.transition{i}.0"] = f"features.transition{i}.norm"
        modules[f"net.transition{i}.3"] = f"features.transition{i}.conv"
    modules |= {"net.head.0": "features.norm5", "net.head.4": "classifier"}
    for key in keys:
        module, _, tensor = key.rpartition(".")
        yield f"{modules[module]}.{tensor}"
