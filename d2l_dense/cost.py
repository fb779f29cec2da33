"""What a DenseNet costs, by arithmetic alone: the standard library only."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

_FREE = ("lr", "momentum", "weight_decay", "memory")  # known, change nothing


class Row(NamedTuple):
    """A layer, named "stage" or "stage.layer", and the shape it hands on."""

    name: str
    shape: tuple[int, int, int]  # (C, H, W)
    parameters: int
    macs: int  # of the forward pass, for the whole batch
    activation_bytes: int  # for the whole batch


class Summary(NamedTuple):
    """The rows of a network, in the order in which they run, and totals."""

    rows: tuple[Row, ...]
    parameters: int
    macs: int
    activation_bytes: int

    def by_stage(self) -> tuple[Row, ...]:
        """Merge to "stem", "block1", "transition1", ..., "head"."""
        groups = groupby(self.rows, key=lambda row: row.name.split(".")[0])
        stages = [(name, tuple(rows)) for name, rows in groups]
        return tuple(Row(s, r[-1].shape, *_totals(r)) for s, r in stages)


def channels(in_channels: int, i: int, growth_rate: int) -> int:
    """Channels after layer i of a block, C + i k; i = 0 is its input.

    Raises: ValueError, if an argument is out of range.
    Source: Huang et al. (2017), section 3. Chapter: "Dense blocks".
    """
    _check(in_channels=in_channels, growth_rate=growth_rate)
    _check(least=0, i=i)
    return in_channels + i * growth_rate


def layer_parameters(
    in_channels: int,
    growth_rate: int,
    bottleneck: int | None = None,
    bias: bool = True,
) -> int:
    """Parameters of one dense layer that reads c channels: 2c + 9ck.

    With a bottleneck b, of width m = bk: 2c + cm + 2m + 9mk. Biases add what
    the convolutions write: k, with a bottleneck m + k.

    Raises: ValueError, if an argument is out of range.
    Source: Huang et al. (2017), section 3. Chapter: "Dense blocks".
    """
    return block_parameters(in_channels, 1, growth_rate, bottleneck, bias)


def block_parameters(
    in_channels: int,
    num_layers: int,
    growth_rate: int,
    bottleneck: int | None = None,
    bias: bool = True,
) -> int:
    """Parameters of a dense block of L layers: a polynomial in L.

    A layer costs s = 2 + 9k for each channel that it reads (s = 2 + bk with
    a bottleneck) and a constant f; it reads k channels more than the one
    before it. In all L (s C + f) + s k L (L - 1) / 2: quadratic in L.

    Raises: ValueError, if an argument is out of range.
    Source: Huang et al. (2017), section 3. Chapter: "Dense blocks".
    """
    _check(in_channels=in_channels, num_layers=num_layers)
    _check(growth_rate=growth_rate)
    slope, fixed = 2 + 9 * growth_rate, growth_rate * bool(bias)
    if bottleneck is not None:
        _check(bottleneck=bottleneck)
        width = bottleneck * growth_rate
        slope, fixed = 2 + width, fixed + width * (slope + bool(bias))
    pairs = num_layers * (num_layers - 1) // 2
    return num_layers * (slope * in_channels + fixed) + (
        slope * growth_rate * pairs
    )


def summary(
    config: Mapping[str, Any],
    input_shape: Sequence[int],
    *,
    pool_first: bool = True,
    bytes_per_element: int = 4,
) -> Summary:
    """Count a DenseNet, layer by layer, without building it.

    Shape: `input_shape` is (N, C, H, W). MACs and bytes are for all N
    pictures: N = 1 gives published figures.

    Args:
        config: keyword arguments of `DenseNet`, with its defaults.
        input_shape: of a batch; C is the config's `in_channels`.
        pool_first: transitions pool before they convolve, as ours do; False
            counts the paper's and torchvision's order, 4 times the MACs.
        bytes_per_element: 4 for float32.

    MACs: those of convolutions and the linear layer; FLOPs are twice that.
    Activation bytes: what a layer writes and the backward pass reads, if
    `memory` is "plain" (other values are ignored). It keeps the output of

    - BN, with ReLU in place, and a mean and a deviation a channel, of 4
      bytes or more, whatever `bytes_per_element` is;
    - a convolution, but for a dense layer's last, which is concatenated;
    - each concatenation, since the next BN reads it: quadratic in depth;
    - each pooling; if it is max pooling, 8 bytes an element for its index.

    The batch itself, parameters, gradients and the loss are not counted.

    Raises:
        ValueError: if a key is unknown, a value out of range, or the picture
            too small; it names the argument and what is allowed.

    Source: Huang et al. (2017), section 3; D2L, section 8.7.
    Chapters: "The model", "Parameters", "Memory".
    """
    known = {**_densenet.__kwdefaults__, **dict.fromkeys(_FREE)}
    for key in config:
        if key not in known:
            allowed = ", ".join(known)
            raise ValueError(f"config has {key!r}: expected one of {allowed}")
    costly = {key: config[key] for key in config if key not in _FREE}
    in_channels = {**known, **costly}["in_channels"]
    count = _Count(input_shape, in_channels, bytes_per_element)
    _densenet(count, pool_first, **costly)
    return Summary(tuple(count.rows), *_totals(count.rows))


def resnet(
    depth: int,
    in_channels: int = 3,
    num_classes: int = 1000,
    input_shape: Sequence[int] | None = None,
) -> Summary:
    """Count torchvision's ResNet of this depth, by the rules of `summary`.

    Shape: `input_shape` is (N, C, H, W), (1, in_channels, 224, 224) if None.

    Raises:
        ValueError: if torchvision has no such depth, or as in `summary`.

    Source: He et al. (2016), Table 1. Chapter: "Parameters".
    """
    if depth not in _RESNETS:
        raise ValueError(f"depth={depth!r}: expected one of {tuple(_RESNETS)}")
    _check(num_classes=num_classes)
    if input_shape is None:
        input_shape = (1, in_channels, 224, 224)
    count = _Count(input_shape, in_channels, 4)
    c, (h, w) = 64, count.stem(in_channels, 64, bias=False)
    for i, num_layers in enumerate(_RESNETS[depth]):
        for j in range(num_layers):
            before, a, m = h * w, c, 64 * 2**i
            if i > 0 and j == 0:
                h, w = (h + 1) // 2, (w + 1) // 2
            area, c = h * w, m if depth < 50 else 4 * m
            convs = [(a, m, 3, area), (m, m, 3, area)]
            kept = 4 * m * area
            if depth >= 50:
                convs = [(a, m, 1, before), (m, m, 3, area), (m, c, 1, area)]
                kept = 2 * (m * before + m * area + c * area)
            if a != c:  # a shortcut of 1x1 convolution and BN, then a sum
                convs.append((a, c, 1, area))
                kept += c * area
            norms = sum(conv[1] for conv in convs)
            name = f"stage{i + 1}.layer{j + 1}"
            count.add(name, (c, h, w), convs, norms, kept, bias=False)
    count.add("head", (num_classes, 1, 1), [(c, num_classes, 1, 1)], 0, c)
    return Summary(tuple(count.rows), *_totals(count.rows))


_RESNETS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_RESNETS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class _Count:
    """Rows; a convolution is (channels in, channels out, kernel, area)."""

    def __init__(self, input_shape, in_channels, element):
        shape = input_shape if isinstance(input_shape, Sequence) else ()
        _check(in_channels=in_channels, bytes_per_element=element)
        if len(shape) != 4 or not all(map(_whole, shape)) or shape[1] != in_channels:
            raise ValueError(
                f"input_shape={input_shape!r}: expected whole numbers "
                f"(N, {in_channels}, H, W), since in_channels={in_channels}"
            )
        self.batch, self.area, self.element = shape[0], tuple(shape[2:]), element
        self.rows = []

    def add(self, name, shape, convs, norms, kept, indices=0, bias=True):
        weights = [i * o * k * k for i, o, k, _ in convs]
        biases = bias * sum(conv[1] for conv in convs)
        macs = self.batch * sum(w * conv[3] for w, conv in zip(weights, convs))
        kept = self.batch * (self.element * kept + 8 * indices)
        kept += 2 * norms * max(4, self.element)
        self.rows.append(Row(name, shape, sum(weights) + biases + 2 * norms, macs, kept))

    def stem(self, in_channels, c, bias):
        """A 7x7 convolution and a 3x3 max pooling, both with stride 2."""
        (h, w), (height, width) = self.area, self.area
