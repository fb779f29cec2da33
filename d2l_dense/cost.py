"""What a DenseNet costs, by arithmetic alone (standard library only)."""

from collections.abc import Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import NamedTuple

_DEFAULTS = dict(
    num_channels=64, growth_rate=32, arch=(4, 4, 4, 4), lr=0.1, num_classes=10,
    in_channels=1, bottleneck=None, compression=0.5, pool="avg", bias=True,
    stem="imagenet", momentum=0.0, weight_decay=0.0, memory="plain",
)  # fmt: skip
_RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_RESNETS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Row(NamedTuple):
    """A layer, "stage" or "stage.layer", and the shape (C, H, W) it makes."""

    name: str
    shape: tuple[int, int, int]
    parameters: int
    macs: int
    activation_bytes: int


class Summary(NamedTuple):
    """The rows of a network in the order in which they run, and their sums."""

    rows: tuple[Row, ...]
    parameters: int
    macs: int
    activation_bytes: int

    def by_stage(self) -> tuple[Row, ...]:
        """One row for each of "stem", "block1", "transition1", ..., "head"."""
        groups = groupby(self.rows, lambda row: row.name.split(".")[0])
        parts = [(stage, _total(tuple(rows))) for stage, rows in groups]
        return tuple(Row(s, p.rows[-1].shape, *p[1:]) for s, p in parts)


def channels(in_channels: int, i: int, growth_rate: int) -> int:
    """Channels after layer i, c + ik. Source: see `block_parameters`."""
    return in_channels + i * growth_rate


def layer_parameters(
    in_channels: int, growth_rate: int, bottleneck=None, bias=True
) -> int:
    """Parameters of a dense layer that reads c channels, 2c + 9ck + k.

    A bottleneck of m = bk channels makes it 2c + cm + m + 2m + 9mk + k. The
    lone m and k are the biases. Errors and source: see `block_parameters`.
    """
    return block_parameters(in_channels, 1, growth_rate, bottleneck, bias)


def block_parameters(
    in_channels: int,
    num_layers: int,
    growth_rate: int,
    bottleneck: int | None = None,
    bias: bool = True,
) -> int:
    """Parameters of a dense block of L layers, L (sc + f) + sk L (L - 1) / 2.

    A layer costs s for each channel that it reads (2 + 9k, or 2 + bk with a
    bottleneck) and f besides; it reads k channels more than the one before.

    Raises: ValueError, if a count is not a whole number of 1 or more.
    Source: Huang et al. (2017), section 3. Chapter: "Dense blocks".
    """
    _check(in_channels=in_channels, num_layers=num_layers)
    _check(growth_rate=growth_rate)
    slope, fixed = 2 + 9 * growth_rate, bias * growth_rate
    if bottleneck is not None:
        _check(bottleneck=bottleneck)
        m = bottleneck * growth_rate
        slope, fixed = 2 + m, (slope + bias) * m + fixed
    last = in_channels + (num_layers - 1) * growth_rate  # what layer L reads
    return num_layers * (slope * (in_channels + last) + 2 * fixed) // 2


def summary(
    config: dict, input_shape: tuple, *, pool_first=True, bytes_per_element=4
) -> Summary:
    """Count a DenseNet, layer by layer, for a batch of shape (N, C, H, W).

    Args:
        config: keyword arguments of `DenseNet`, with the same defaults.
        pool_first: transitions pool, then convolve; torchvision: False.
        bytes_per_element: of an activation, 4 for float32.

    MACs are those of convolutions and the linear layer. Activation bytes are
    what a layer writes and the backward pass reads if memory="plain": each
    output of BN (ReLU works in place), pooling, concatenation and convolution
    but a dense layer's last, which is copied; 8 bytes for an index of max
    pooling. Not counted: the batch, parameters, logits, gradients, and the
    mean and deviation that BN keeps of each channel.

    Raises: ValueError, naming the argument, its value and what is allowed.
    Source: Huang et al. (2017), sections 3 and 4. Chapter: "Parameters".
    """
    for key in config:
        _require(key in _DEFAULTS, "config key", key, ", ".join(_DEFAULTS))
    net = SimpleNamespace(**{**_DEFAULTS, **config})
    c, k, theta = net.num_channels, net.growth_rate, net.compression
    m, bias, size = (net.bottleneck or 0) * k, net.bias, bytes_per_element
    _check(num_channels=c, num_classes=net.num_classes, bytes_per_element=size)
    _require(0 < theta <= 1, "compression", theta, "0 < theta <= 1")
    layers = isinstance(net.arch, Sequence) and len(net.arch)
    _require(layers, "arch", net.arch, "the number of layers of each block")
    rows = [_stem(input_shape, net.in_channels, c, net.stem, bias, size)]
    for i, num_layers in enumerate(net.arch, start=1):
        n, (_, h, w) = input_shape[0], rows[-1].shape
        _check(**{f"arch[{i - 1}]": num_layers})
        for j in range(1, num_layers + 1):
            count = layer_parameters(c, k, net.bottleneck, bias)
            macs = n * h * w * (c * m + 9 * m * k if m else 9 * c * k)
            kept = n * h * w * (c + m + m + c + k)  # BN, conv, BN, cat
            c, name = c + k, f"block{i}.layer{j}"
            rows.append(Row(name, (c, h, w), count, macs, size * kept))
        if i < len(net.arch):
            name, shape = f"transition{i}", (int(c * theta), h // 2, w // 2)
            remedy = "no 0, so a larger input_shape or compression"
            _require(all(shape), f"output of {name}", shape, remedy)
            out, big, small = shape[0], n * h * w, n * shape[1] * shape[2]
            at, pooled = (small, c) if pool_first else (big, out)
            kept = size * (c * big + out * at + pooled * small)
            kept += 8 * pooled * small * (net.pool == "max")
            count, macs = 2 * c + (c + bias) * out, c * out * at
            rows.append(Row(name, shape, count, macs, kept))
            c = out
    k, kept = net.num_classes, size * c * n * (h * w + 1)
    rows.append(Row("head", (k, 1, 1), 2 * c + (c + 1) * k, n * c * k, kept))
    return _total(tuple(rows))


def resnet(
    depth: int, in_channels: int = 3, num_classes: int = 1000, input_shape=None
) -> Summary:
    """Count torchvision's ResNet-18, 34, 50, 101 or 152, one row a stage.

    Rules and errors: as in `summary`. Without `input_shape`, 224 x 224.
    Source: He et al. (2016), Table 1. Chapter: "Parameters".
    """
    _require(depth in _RESNETS, "depth", depth, f"one of {[*_RESNETS]}")
    _check(num_classes=num_classes)
    shape = input_shape or (1, in_channels, 224, 224)
    n, rows = shape[0], [_stem(shape, in_channels, 64, "imagenet", 0, 4)]
    for i, layers in enumerate(_RESNETS[depth]):
        _, h, w = rows[-1].shape
        m, later, before = 64 * 2**i, i > 0, n * h * w
        h, w = (h + later) // (1 + later), (w + later) // (1 + later)
        pixels = n * h * w
        if depth < 50:  # two 3x3 convolutions a layer
            weights, norms = 18 * layers - 4 * later, 4 * layers + 2 * later
            c, kept, extra = m, 4 * layers + later, 0
        else:  # 1x1 (the first on the area before), 3x3, 1x1
            weights, norms = 17 * layers + 1 + 5 * later, 12 * layers + 8
            c, kept, extra = 4 * m, 12 * layers + 4, 2 * (before - pixels)
        count, macs = m * (m * weights + norms), weights * pixels + extra
        kept = 4 * m * (kept * pixels + extra)
        rows.append(Row(f"stage{i + 1}", (c, h, w), count, m * m * macs, kept))
    k, kept = num_classes, 4 * n * c
    rows.append(Row("head", (k, 1, 1), (c + 1) * k, n * c * k, kept))
    return _total(tuple(rows))


def _stem(input_shape, in_channels, c, stem, bias, size):
    fine = len(input_shape) == 4 and input_shape[1] == in_channels
    _require(fine, "input_shape", input_shape, f"(N, {in_channels}, H, W)")
    n, _, h, w = input_shape
    _check(in_channels=in_channels, N=n, H=h, W=w)
    _require(stem in ("imagenet", "cifar"), "stem", stem, "imagenet or cifar")
    if stem == "cifar":
        weights, pixels = 9 * in_channels * c, n * h * w
        costs = weights + bias * c, weights * pixels, size * c * pixels
    else:
        weights, h, w = 49 * in_channels * c, (h + 1) // 2, (w + 1) // 2
        pixels, h, w = n * h * w, (h + 1) // 2, (w + 1) // 2
        kept = c * (2 * size * pixels + (size + 8) * n * h * w)
        costs = weights + (bias + 2) * c, weights * pixels, kept
    return Row("stem", (c, h, w), *costs)


def _total(rows):
    return Summary(rows, *map(sum, [*zip(*rows, strict=True)][2:]))


def _require(fine, name, value, expected):
    if not fine:
        raise ValueError(f"{name}={value!r}: expected {expected}")


def _check(**counts):
    for name, value in counts.items():
        fine = type(value) is int and value > 0
        _require(fine, name, value, "a whole number, 1 or more")
