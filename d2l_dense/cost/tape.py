"""A network's rows, and the tape that lays it out and writes them."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple


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
        return merge(stages)


class Tape:
    """Lays out a network, and writes a row for each thing it does."""

    def __init__(self, input_shape: Sequence[int], in_channels: int, size: int):
        check(in_channels=in_channels)
        fits = isinstance(input_shape, Sequence) and len(input_shape) == 4
        fits = fits and input_shape[1] == in_channels
        require(fits, "input_shape", input_shape, f"(N, {in_channels}, H, W)")
        self.n, *shape = input_shape
        self.shape, self.size = tuple(shape), size
        check(N=self.n, H=self.shape[1], W=self.shape[2])
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
        # Maximum pooling keeps an index as well; every second pixel is a view.
        extra = {"avg": self.size, "max": self.size + 8, "stride": 0}
        require(kind in extra, "pool", kind, ", ".join(extra))
        self.write(name, self.shape[0], size=extra[kind])

    def stem(self, kind, out, bias):
        require(kind in ("imagenet", "cifar"), "stem", kind, "imagenet or cifar")
        if kind == "cifar":
            self.conv("stem", out, 3, bias=bias)
            return
        self.conv("stem", out, 7, stride=2, bias=bias)
        self.norm("stem")
        self.pool("stem", "max", *(-(-side // 2) for side in self.shape[1:]))

    def head(self, num_classes):
        self.pool("head", "avg", 1, 1)
        self.conv("head", num_classes, 1, bias=True, kept=False)


def merge(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Sum neighbours of one name; the last one's shape is the result's."""
    merged = []
    for name, group in groupby(rows, lambda row: row.name):
        group = list(group)
        merged.append(Row(name, group[-1].shape, *total(group)[1:]))
    return tuple(merged)


def total(rows: Sequence[Row]) -> Summary:
    return Summary(tuple(rows), *map(sum, list(zip(*rows, strict=True))[2:]))


def require(fine: bool, name: str, value: object, expected: str) -> None:
    if not fine:
        raise ValueError(f"{name}={value!r}: expected {expected}")


def check(**counts: int) -> None:
    for name, value in counts.items():
        fine = type(value) is int and value > 0
        require(fine, name, value, "a whole number, 1 or more")
