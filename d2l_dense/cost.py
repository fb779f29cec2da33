"""What a DenseNet costs, by arithmetic alone: parameters, MACs, bytes."""

from bisect import bisect
from collections.abc import Sequence
from inspect import signature
from itertools import groupby
from math import prod
from typing import NamedTuple

from d2l_dense import checks
from d2l_dense.densenet import DenseNet, check_arguments

DEFAULTS = {name: p.default for name, p in signature(DenseNet).parameters.items()}


class Row(NamedTuple):
    """A layer, "stage" or "stage.layer", and the shape (C, H, W) of its output."""

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

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Summary":
        """Add up the columns of some rows."""
        columns = list(zip(*rows, strict=True))[2:]  # without names and shapes
        return cls(tuple(rows), *map(sum, columns))

    def by_stage(self) -> tuple[Row, ...]:
        """One row for each of "stem", "block1", "transition1", ..., "head"."""
        stages = groupby(self.rows, lambda row: row.name.split(".")[0])
        sums = [(name, self.of([*rows])) for name, rows in stages]
        return tuple(Row(name, s.rows[-1].shape, *s[1:]) for name, s in sums)


class Peak(NamedTuple):
    """Bytes at the peak of a training step, and the stage that goes backward then."""

    stage: str
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    inputs: int

    @property
    def total(self) -> int:
        return sum(self[1:])


def summary(
    config: dict, input_shape: tuple, *, pool_first=True, bytes_per_element=4
) -> Summary:
    """Count a DenseNet, layer by layer, for a batch of shape (N, C, H, W).

    MACs are those of convolutions and the linear layer. Activation bytes are what
    autograd keeps if memory="plain": the outputs of BN (ReLU works in place), pooling,
    concatenation and convolutions, and 8 bytes for an index of max pooling.

    Args:
        config: arguments of `DenseNet`.
        pool_first: transitions pool, then convolve; torchvision: False.
    Source: Huang et al. (2017), sections 3 and 4. Chapter: "The model".
    """
    for key in config:
        checks.choice("config key", key, DEFAULTS)
    net = {**DEFAULTS, **config}
    check_arguments(net)
    n, c, h, w = checks.counts("input_shape", input_shape, length=4)
    if c != net["in_channels"]:
        expected = f"(N, {net['in_channels']}, H, W)"
        raise ValueError(f"input_shape={input_shape!r}: expected {expected}")
    k, bias = net["growth_rate"], net["bias"]
    inner = (net["bottleneck"] or 0) * k  # width of the bottleneck
    rows = []

    def add(name, norms, weights, biases, pixels, kept, indices=0):
        """Note channels normalized, weights, pixels that each meets, numbers kept."""
        parameters = 2 * norms + weights + biases
        memory = n * (bytes_per_element * kept + 8 * indices)
        rows.append(Row(name, (c, h, w), parameters, n * pixels * weights, memory))

    weights, c = c * net["num_channels"], net["num_channels"]
    if net["stem"] == "cifar":
        add("stem", 0, 9 * weights, bias * c, h * w, c * h * w)
    else:  # 7x7 convolution, BN, max pooling; both halve the side, rounding up
        before = -(-h // 2) * -(-w // 2)
        h, w = -(-h // 4), -(-w // 4)
        pooled = c * h * w
        add("stem", c, 49 * weights, bias * c, before, 2 * c * before + pooled, pooled)
    for i, num_layers in enumerate(net["arch"], start=1):
        for j in range(1, num_layers + 1):
            weights = (c + 9 * k) * inner if inner else 9 * c * k
            norms, c = c + inner, c + k
            kept = (norms + inner + c) * h * w  # BN, bottleneck, concatenation
            name = f"block{i}.layer{j}"
            add(name, norms, weights, bias * (inner + k), h * w, kept)
        if i == len(net["arch"]):
            break
        before, norms, name = h * w, c, f"transition{i}"
        c, h, w = int(c * net["compression"]), h // 2, w // 2
        if not c * h * w:
            advice = "take larger images or a larger compression"
            raise ValueError(f"{input_shape=!r}: {name} makes {(c, h, w)}; {advice}")
        convolved = h * w if pool_first else before
        pooled = (norms if pool_first else c) * h * w
        kept = norms * before + c * convolved + pooled
        indices = pooled if net["pool"] == "max" else 0
        add(name, norms, norms * c, bias * c, convolved, kept, indices)
    norms, before, classes = c, h * w, net["num_classes"]
    c, h, w = classes, 1, 1
    add("head", norms, norms * classes, classes, 1, norms * before + norms)
    return Summary.of(rows)


def peak(config: dict, input_shape: tuple, *, states=1, bytes_per_element=4) -> Peak:
    """Estimate the peak of a training step, mostly to 10 % of what PyTorch allocates.

    While a stage goes backward there are the gradients of later parameters, what all
    stages so far have kept, and what this one needs for a moment.

    Args:
        config: arguments of `DenseNet`; "memory" is the strategy.
        states: numbers that the optimizer keeps per parameter: 0 for plain SGD, 1 with
            momentum, 2 for Adam, whose step needs more where the batch is small.
    Source: Pleiss et al. (2017). Chapter: "The largest batch".
    """
    counted = summary(config, input_shape, bytes_per_element=bytes_per_element)
    net, (n, *image) = {**DEFAULTS, **config}, map(int, input_shape)
    check_arguments(net)
    size, lean, k = n * bytes_per_element, net["memory"] != "plain", net["growth_rate"]
    inner = (net["bottleneck"] or 0) * k
    kept, before, gradients, moments = 0, tuple(image), 4 * counted.parameters, []
    for row in counted.by_stage():
        (c, h, w), read, made = row.shape, prod(before), prod(row.shape)
        outputs = 0  # of a block's layers but the last: what is kept if lean
        if row.name.startswith("block"):  # its last layer goes backward first
            last, narrow = (c - k) * h * w, inner * h * w  # read, made by 1x1
            each = k + inner if net["memory"] == "shared" else k
            outputs = ((c - before[0]) // k * each - k) * h * w
            again = 3 * max(last, narrow)  # input, ReLU's output, gradient
            if inner and net["memory"] == "checkpoint":  # of both convolutions
                again = max(again, 2 * last + 4 * narrow)
            needed = made + (again if lean else narrow or last)  # made: its gradient
        elif row.name != "stem":  # two gradients; lean: what ReLU and pooling give, too
            needed = 3 * read + before[0] * h * w if lean else 2 * read
        elif net["stem"] == "cifar":
            needed = made
        else:  # lean: convolution, BN, a gradient; output, gradient, indices of 8 bytes
            full = c * -(-before[1] // 2) * -(-before[2] // 2)  # before the pooling
            needed = 3 * full + 4 * made if lean else full + made
        kept += size * outputs if lean else row.activation_bytes
        moments.append((row.name, gradients, kept + size * needed))
        kept += size * made if lean else 0  # the next stage reads it
        gradients -= 4 * row.parameters
        before = row.shape
    stage, gradients, activations = max(moments, key=lambda moment: sum(moment[1:]))
    parameters = 4 * counted.parameters
    inputs = n * (4 * prod(image) + 8)  # float32 images and int64 labels
    return Peak(stage, parameters, gradients, states * parameters, activations, inputs)


def largest_batch(config: dict, image_shape: tuple, budget: float, **options) -> int:
    """Return how many images (C, H, W) fit into so many bytes; options as in `peak`."""
    image = checks.counts("image_shape", image_shape, length=3)
    peak(config, (1, *image), **options)  # refuses what is wrong, by its name
    ns = range(1, int(budget) // (4 * prod(image)) + 1)  # room for images
    return bisect(ns, budget, key=lambda n: peak(config, (n, *image), **options).total)
