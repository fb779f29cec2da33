"""What a DenseNet costs, by arithmetic alone (standard library only)."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import Any, NamedTuple

_DEFAULTS = dict(
    num_channels=64, growth_rate=32, arch=(4, 4, 4, 4), lr=0.1, num_classes=10,
    in_channels=1, bottleneck=None, compression=0.5, pool="avg", bias=True,
    stem="imagenet", momentum=0.0, weight_decay=0.0, memory="plain",
)  # fmt: skip


class Row(NamedTuple):
    """A layer, "stage" or "stage.layer", and the shape (C, H, W) it makes."""

    name: str
    shape: tuple[int, int, int]
    parameters: int
    macs: int
    activation_bytes: int


class Summary(NamedTuple):
    """The rows of a network in the order in which they run, and totals."""

    rows: tuple[Row, ...]
    parameters: int
    macs: int
    activation_bytes: int

    def by_stage(self) -> tuple[Row, ...]:
        """One row for each of "stem", "block1", "transition1", ..., "head"."""
        stages = (row._replace(name=row.name.split(".")[0]) for row in self.rows)
        return _merge(stages)


def channels(in_channels: int, i: int, growth_rate: int) -> int:
    """Channels after layer i, c + ik. Source: see `block_parameters`."""
    return in_channels + i * growth_rate


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
    config: Mapping[str, Any],
    input_shape: Sequence[int],
    *,
    pool_first: bool = True,
    bytes_per_element: int = 4,
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
    Source: Huang et al. (2017), sections 3 and 4. Chapter: "The model".
    """
    for key in config:
        _require(key in _DEFAULTS, "config key", key, ", ".join(_DEFAULTS))
    net = SimpleNamespace(**{**_DEFAULTS, **config})
    _check(num_channels=net.num_channels, num_classes=net.num_classes)
    _check(growth_rate=net.growth_rate, bytes_per_element=bytes_per_element)
    theta, fits = net.compression, isinstance(net.arch, Sequence) and len(net.arch)
    _require(0 < theta <= 1, "compression", theta, "0 < theta <= 1")
    _require(fits, "arch", net.arch, "the number of layers of each block")

    tape = _Tape(input_shape, net.in_channels, bytes_per_element)
    tape.stem(net.stem, net.num_channels, net.bias)
    for i, num_layers in enumerate(net.arch, start=1):
        _check(**{f"arch[{i - 1}]": num_layers})
        for j in range(1, num_layers + 1):
            name, before = f"block{i}.layer{j}", tape.shape[0]
            tape.norm(name)
            if net.bottleneck is not None:
                _check(bottleneck=net.bottleneck)
                tape.conv(name, net.bottleneck * net.growth_rate, 1, bias=net.bias)
                tape.norm(name)
            tape.conv(name, net.growth_rate, 3, bias=net.bias, kept=False)
            tape.write(name, channels(before, 1, net.growth_rate))  # concatenation
        if i < len(net.arch):
            name, out = f"transition{i}", int(tape.shape[0] * theta)
            tape.norm(name)
            if not pool_first:
                tape.conv(name, out, 1, bias=net.bias)
            tape.pool(name, net.pool, tape.shape[1] // 2, tape.shape[2] // 2)
            if pool_first:
                tape.conv(name, out, 1, bias=net.bias)
            remedy = "no 0, so a larger input_shape or compression"
            _require(all(tape.shape), f"output of {name}", tape.shape, remedy)
    tape.norm("head")
    tape.head(net.num_classes)
    return _total(_merge(tape.rows))


class _Tape:
    """Lays out a network, and writes a row for each thing it does."""

    def __init__(self, input_shape: Sequence[int], in_channels: int, size: int):
        _check(in_channels=in_channels)
        fits = len(input_shape) == 4 and input_shape[1] == in_channels
        _require(fits, "input_shape", input_shape, f"(N, {in_channels}, H, W)")
        self.n, *shape = input_shape
        self.shape, self.size = tuple(shape), size
        _check(N=self.n, H=self.shape[1], W=self.shape[2])
        self.rows: list[Row] = []

    def write(self, name, channels, parameters=0, macs=0, size=None):
        """Note an output of as many channels; `size` bytes an element are kept."""
        self.shape = (channels, *self.shape[1:])
        elements = self.n * channels * self.shape[1] * self.shape[2]
        kept = elements * (self.size if size is None else size)
        self.rows.append(Row(name, self.shape, parameters, macs, kept))

    def conv(self, name, out, kernel, stride=1, bias=False, kept=True):
        c, h, w = self.shape
        self.shape = (c, -(-h // stride), -(-w // stride))  # padded, so rounded up
        weights, pixels = c * out * kernel**2, self.n * self.shape[1] * self.shape[2]
        size = None if kept else 0
        self.write(name, out, weights + bias * out, weights * pixels, size)

    def norm(self, name, kept=True):
        self.write(name, self.shape[0], 2 * self.shape[0], size=None if kept else 0)

    def pool(self, name, kind, h, w):
        self.shape = (self.shape[0], h, w)
        self.write(name, self.shape[0], size=self.size + 8 * (kind == "max"))

    def stem(self, kind, out, bias):
        _require(kind in ("imagenet", "cifar"), "stem", kind, "imagenet or cifar")
        if kind == "cifar":
            self.conv("stem", out, 3, bias=bias)
            return
        self.conv("stem", out, 7, stride=2, bias=bias)
        self.norm("stem")
        self.pool("stem", "max", *(-(-side // 2) for side in self.shape[1:]))

    def head(self, num_classes):
        self.pool("head", "avg", 1, 1)
        self.conv("head", num_classes, 1, bias=True, kept=False)


def _merge(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Sum neighbours of one name; the last one's shape is the result's."""
    merged = []
    for name, group in groupby(rows, lambda row: row.name):
        group = list(group)
        merged.append(Row(name, group[-1].shape, *_total(group)[1:]))
    return tuple(merged)


def _total(rows: Sequence[Row]) -> Summary:
    return Summary(tuple(rows), *map(sum, list(zip(*rows, strict=True))[2:]))


def _require(fine: bool, name: str, value: object, expected: str) -> None:
    if not fine:
        raise ValueError(f"{name}={value!r}: expected {expected}")


def _check(**counts: int) -> None:
    for name, value in counts.items():
        fine = type(value) is int and value > 0
        _require(fine, name, value, "a whole number, 1 or more")
