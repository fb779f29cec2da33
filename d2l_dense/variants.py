"""The paper's networks, and torchvision's names for their weights."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

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


def to_torchvision(
    own: Mapping[str, Tensor],
    arch: Sequence[int],
    bottleneck: int | None,
    stem: str,
    bias: bool,
) -> dict[str, Tensor]:
    """Return the weights of a `DenseNet` of these arguments under torchvision's names.

    Raises:
        ValueError: if no torchvision network is of this form.
    """
    if bottleneck is None or stem != "imagenet" or bias:
        raise ValueError(
            f"bottleneck={bottleneck}, stem={stem!r}, bias={bias}: expected a "
            "bottleneck, stem='imagenet' and bias=False, as torchvision's networks have"
        )
    return dict(zip(torchvision_names(own, arch), own.values(), strict=True))


def from_torchvision(
    state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor], arch: Sequence[int]
) -> dict[str, Tensor]:
    """Return torchvision's weights under our names, if they fit `own`; else refuse.

    The published files say "norm.1" for "norm1", and do not count batches.
    """
    pattern = re.compile(r"(?<=\.)(norm|conv)\.([12])(?=\.)")
    expected = dict(zip(torchvision_names(own, arch), own.values(), strict=True))
    found = {k: tensor for k, tensor in expected.items() if k.endswith("_tracked")}
    found |= {pattern.sub(r"\1\2", key): value for key, value in state_dict.items()}
    for key in [*expected, *found]:
        shapes = _shape(found.get(key)), _shape(expected.get(key))
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the weights do not fit: {key} is {shapes[0]}, expected {shapes[1]}, "
                "as in the state_dict() of the torchvision network of this depth"
            )
    return {ours: found[key] for ours, key in zip(own, expected, strict=True)}


def _shape(value: object) -> str:
    if value is None:
        return "nothing"
    if not isinstance(value, Tensor) or value.is_meta:
        return f"{type(value).__name__} without values"
    return str(tuple(value.shape))
