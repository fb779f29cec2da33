"""What a DenseNet costs, by arithmetic alone: parameters, MACs, bytes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import prod
from typing import Any, NamedTuple

from d2l_dense import checks
from d2l_dense.recompute import MEMORY

DEFAULTS = dict(
    num_channels=64, growth_rate=32, arch=(4, 4, 4, 4), lr=0.1, num_classes=10,
    in_channels=1, bottleneck=None, compression=0.5, pool="avg", memory="plain",
    bias=True, stem="imagenet", momentum=0.0, weight_decay=0.0,
)  # fmt: skip


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

    def by_stage(self) -> tuple[Row, ...]:
        """One row for each of "stem", "block1", "transition1", ..., "head"."""
        return _merged(row._replace(name=row.name.split(".")[0]) for row in self.rows)


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


def block_parameters(
    in_channels: int,
    num_layers: int,
    growth_rate: int,
    bottleneck: int | None = None,
    bias: bool = True,
) -> int:
    """Parameters of a dense block of L layers, L (sC + f) + sk L (L - 1) / 2.

    A layer costs s for each channel that it reads (2 + 9k, or 2 + bk with a
    bottleneck) and f besides; layer i reads C + (i - 1) k channels.
    """
    s, f = 2 + 9 * growth_rate, bias * growth_rate
    if bottleneck is not None:
        width = bottleneck * growth_rate
        s, f = 2 + width, (s + bias) * width + f
    pairs = num_layers * (num_layers - 1) // 2
    return num_layers * (s * in_channels + f) + s * growth_rate * pairs


def summary(
    config: Mapping[str, Any],
    input_shape: Sequence[int],
    *,
    pool_first: bool = True,
    bytes_per_element: int = 4,
) -> Summary:
    """Count a DenseNet, layer by layer, for a batch of shape (N, C, H, W).

    MACs are those of convolutions and the linear layer. Activation bytes are what
    autograd keeps if memory="plain": the outputs of BN (ReLU works in place), pooling,
    concatenation and convolutions, and 8 bytes for an index of max pooling.

    Args:
        config: keyword arguments of `DenseNet`, with the same defaults.
        pool_first: transitions pool, then convolve; torchvision: False.
        bytes_per_element: of an activation, 4 for float32.

    Source: Huang et al. (2017), sections 3 and 4. Chapter: "The model".
    """
    for key in config:
        checks.choice("config key", key, DEFAULTS)
    net = {**DEFAULTS, **config}
    for name in ("growth_rate", "num_channels", "num_classes", "in_channels"):
        checks.count(name, net[name])
    checks.choice("pool", net["pool"], ("avg", "max", "stride"))
    if not 0 < net["compression"] <= 1:
        raise ValueError(f"compression={net['compression']}: expected 0 < theta <= 1")
    arch = checks.counts("arch", net["arch"])
    shape = checks.counts("input_shape", input_shape, length=4)
    if shape[1] != net["in_channels"]:
        expected = f"(N, {net['in_channels']}, H, W)"
        raise ValueError(f"input_shape={input_shape!r}: expected {expected}")
    k, bias, bottleneck = net["growth_rate"], net["bias"], net["bottleneck"]

    counter = _Counter(shape, bytes_per_element)
    counter.stem(net["stem"], net["num_channels"], bias)
    for i, num_layers in enumerate(arch, start=1):
        for j in range(1, num_layers + 1):
            counter.layer, reads = f"block{i}.layer{j}", counter.shape[0]
            counter.norm()
            if bottleneck is not None:
                counter.conv(checks.count("bottleneck", bottleneck) * k, 1, bias=bias)
                counter.norm()
            counter.conv(k, 3, bias=bias, kept=False)
            counter.write(reads + k)  # concatenation
        if i < len(arch):
            counter.layer = f"transition{i}"
            narrow = int(counter.shape[0] * net["compression"])
            counter.norm()
            if not pool_first:
                counter.conv(narrow, 1, bias=bias)
            counter.pool(net["pool"], *(side // 2 for side in counter.shape[1:]))
            if pool_first:
                counter.conv(narrow, 1, bias=bias)
            if not all(counter.shape):
                raise ValueError(
                    f"input_shape={input_shape!r}: {counter.layer} makes "
                    f"{counter.shape}; take larger images or a larger compression"
                )
    counter.layer = "head"
    counter.norm()
    counter.pool("avg", 1, 1)
    counter.conv(net["num_classes"], 1, bias=True, kept=False)
    return _summed(_merged(counter.rows))


class _Counter:
    """Follows the shape through a network and writes a row for each operation."""

    def __init__(self, input_shape, bytes_per_element):
        self.n, *shape = input_shape
        self.shape, self.size = tuple(shape), bytes_per_element
        self.layer, self.rows = "stem", []

    def write(self, c, parameters=0, macs=0, size=None):
        """Note an output of c channels, kept in `size` bytes an element."""
        self.shape = (c, *self.shape[1:])
        kept = self.n * prod(self.shape) * (self.size if size is None else size)
        self.rows.append(Row(self.layer, self.shape, parameters, macs, kept))

    def conv(self, out, kernel, stride=1, bias=False, kept=True):
        c, h, w = self.shape
        self.shape = (c, -(-h // stride), -(-w // stride))  # padded, so rounded up
        weights = c * out * kernel**2
        macs = weights * self.n * prod(self.shape[1:])
        self.write(out, weights + bias * out, macs, None if kept else 0)

    def norm(self):
        self.write(self.shape[0], 2 * self.shape[0])

    def pool(self, kind, h, w):
        self.shape = (self.shape[0], h, w)
        # Max pooling keeps an index as well; every second pixel is a view.
        sizes = {"avg": self.size, "max": self.size + 8, "stride": 0}
        self.write(self.shape[0], size=sizes[kind])

    def stem(self, kind, out, bias):
        if checks.choice("stem", kind, ("imagenet", "cifar")) == "cifar":
            self.conv(out, 3, bias=bias)
            return
        self.conv(out, 7, stride=2, bias=bias)
        self.norm()
        self.pool("max", *(-(-side // 2) for side in self.shape[1:]))


def _merged(rows):
    """Sum neighbours of one name; the last one's shape is the result's."""
    merged = []
    for name, group in groupby(rows, lambda row: row.name):
        group = list(group)
        merged.append(Row(name, group[-1].shape, *_summed(group)[1:]))
    return tuple(merged)


def _summed(rows):
    columns = list(zip(*rows, strict=True))[2:]
    return Summary(tuple(rows), *map(sum, columns))


def peak(
    config: Mapping[str, Any],
    input_shape: Sequence[int],
    *,
    states: int = 1,
    bytes_per_element: int = 4,
) -> Peak:
    """Estimate the peak of a training step, to 10 % of what PyTorch allocates.

    Args:
        config, input_shape, bytes_per_element: as in `summary`; the "memory" of the
            config is the strategy.
        states: tensors that the optimizer keeps a parameter, of 4 bytes a number: 0
            for plain SGD, 1 with momentum, 2 for Adam.

    Source: Pleiss et al. (2017). Chapter: "The largest batch".
    """
    n, *image = checks.counts("input_shape", input_shape, length=4)
    moments = _moments(config, image, bytes_per_element)
    stage, gradients, activations = max(moments, key=lambda m: m[1] + n * m[2])
    parameters = 4 * summary(config, (1, *image)).parameters
    inputs = n * (4 * prod(image) + 8)  # float32 images and int64 labels
    return Peak(
        stage, parameters, gradients, states * parameters, n * activations, inputs
    )


def largest_batch(
    config: Mapping[str, Any],
    image_shape: Sequence[int],
    budget: float,
    *,
    states: int = 1,
    bytes_per_element: int = 4,
) -> int:
    """Return how many images (C, H, W) a training step can take in so many bytes."""
    image = checks.counts("image_shape", image_shape, length=3)
    fixed = 4 * (1 + states) * summary(config, (1, *image)).parameters
    fits = [
        (budget - fixed - gradients) // (activations + 4 * prod(image) + 8)
        for _, gradients, activations in _moments(config, image, bytes_per_element)
    ]
    return max(0, int(min(fits)))


def _moments(
    config: Mapping[str, Any], image: Sequence[int], size: int
) -> Iterator[tuple[str, int, int]]:
    """Yield each stage with the bytes that are there when it goes backward.

    These are the gradients of later parameters, and an image's activations: what all
    stages so far have kept, and what this one needs for a moment.
    """
    config = {**DEFAULTS, **config}
    memory = checks.choice("memory", config["memory"], MEMORY)
    net = summary(config, (1, *image), bytes_per_element=size)
    kept, before, gradients = 0, tuple(image), 4 * net.parameters
    k, inner = (
        config["growth_rate"],
        (config["bottleneck"] or 0) * config["growth_rate"],
    )
    for row in net.by_stage():
        if memory == "plain":
            kept += row.activation_bytes
        elif row.name.startswith("block"):  # outputs of layers, perhaps of bottlenecks
            each = k + inner if memory == "shared" else k
            layers = (row.shape[0] - before[0]) // k
            kept += size * layers * each * prod(row.shape[1:])
        working = _working(row, before, k, inner or None, memory != "plain")
        yield row.name, gradients, kept + size * working
        if memory != "plain":
            kept += size * prod(row.shape)  # the next stage reads it
        gradients -= 4 * row.parameters
        before = row.shape


def _working(row, before, growth_rate, inner, lean):
    """Numbers that a stage's backward pass needs for a moment."""
    c, h, w = row.shape
    if row.name.startswith("block"):
        reads = c - growth_rate  # by the last layer, which goes first
        # The output's gradient; lean: concatenation, ReLU and the gradient as well.
        return h * w * (c + 3 * reads if lean else c + (inner or reads))
    if row.name != "stem":  # lean: ReLU, two gradients, both sides of the pooling
        return (7 if lean else 4) * prod(before) // 2
    if row.shape[1:] == before[1:]:  # the stem for CIFAR
        return prod(row.shape)
    full = c * -(-before[1] // 2) * -(-before[2] // 2)  # before the pooling
    # Lean: convolution, BN and a gradient; output, its gradient, indices of 8 bytes.
    return 3 * full + 4 * prod(row.shape) if lean else full + prod(row.shape)
