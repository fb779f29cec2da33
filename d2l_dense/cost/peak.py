"""The peak memory of a training step, in closed form, for each memory strategy."""

from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import Any, NamedTuple

from d2l_dense.cost.densenet import DEFAULTS, summary
from d2l_dense.cost.tape import require

MEMORY = "plain", "checkpoint", "shared"


class Peak(NamedTuple):
    """Bytes at the peak of a training step, and the stage whose turn it is then.

    `activations` are all tensors of the step's forward and backward pass.
    """

    stage: str
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    inputs: int

    @property
    def total(self) -> int:
        return sum(self[1:])


def peak(
    config: Mapping[str, Any],
    input_shape: Sequence[int],
    *,
    states: int = 1,
    bytes_per_element: int = 4,
) -> Peak:
    """Return the peak of a training step of a DenseNet.

    Walks back from the head, stage by stage. What earlier stages keep is still
    there; later ones have left the gradients of their parameters; on top comes
    the most that the stage's own backward pass holds at once.

    Args:
        config: keyword arguments of `DenseNet`; its "memory" is the strategy.
        states: tensors that the optimizer keeps a parameter: 0 for plain SGD, 1
            with momentum, 2 for Adam.
        bytes_per_element: of an activation; a parameter has 4.

    Raises: ValueError, naming the argument, its value and what is allowed.
    Source: Pleiss et al. (2017). Chapter: "The largest batch".
    """
    config = {**DEFAULTS, **config}
    memory = config["memory"]
    require(memory in MEMORY, "memory", memory, ", ".join(MEMORY))
    require(states in (0, 1, 2), "states", states, "0, 1 or 2")
    net = summary(config, input_shape, bytes_per_element=bytes_per_element)
    m = (config["bottleneck"] or 0) * config["growth_rate"]
    n, size = input_shape[0], input_shape[0] * bytes_per_element
    candidates: list[tuple[int, str, int]] = []
    kept, before, later = 0, tuple(input_shape[1:]), 4 * net.parameters
    for stage in net.by_stage():
        later -= 4 * stage.parameters  # gradients that are there by then
        own, work, there = 0, 0, later
        if not stage.name.startswith("block"):
            work = _between(stage.name, stage.shape, before, config, n, size)
        elif memory != "plain":
            layers = [row for row in net.rows if row.name.startswith(f"{stage.name}.")]
            c, h, w = stage.shape
            k = (c - before[0]) // len(layers)
            own, work = _block(memory, c, k, len(layers), m)
            own, work = own * size * h * w, work * size * h * w
            if memory == "shared" and len(layers) > 1:
                there += 4 * layers[-1].parameters
        if memory == "plain":  # all is kept when the stage's gradient arrives
            own = stage.activation_bytes
            work = max(work, own + size * prod(stage.shape))
        candidates.append((kept + work + there, stage.name, there))
        kept, before = kept + own, stage.shape
    highest, where, gradients = max(candidates)
    return Peak(
        where,
        4 * net.parameters,
        gradients,
        4 * states * net.parameters,
        highest - gradients,
        4 * prod(input_shape) + 8 * input_shape[0],
    )


def largest_batch(
    config: Mapping[str, Any],
    image_shape: Sequence[int],
    budget: int,
    *,
    states: int = 1,
    bytes_per_element: int = 4,
) -> int:
    """Return how many images of shape (C, H, W) a step can take in so many bytes.

    Returns 0 if not even one fits. The other arguments are those of `peak`.

    Raises: ValueError, naming the argument, its value and what is allowed.
    """
    require(0 < budget < inf, "budget", budget, "a number of bytes")

    def fits(n: int) -> bool:
        options = {"states": states, "bytes_per_element": bytes_per_element}
        return peak(config, (n, *image_shape), **options).total <= budget

    if not fits(1):
        return 0
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _block(memory: str, c: int, k: int, num_layers: int, m: int) -> tuple[int, int]:
    """Channels that a block keeps, and that its last layer's backward pass holds.

    c channels leave the block, k of them its last layer, which reads the others; m
    are a bottleneck's. Shared: the buffer and its gradient as it came, the gradient
    as it grows, the scratch tensor, and what a convolution takes and gives.
    """
    read = c - k
    if memory == "shared":  # in the turn of the layer before the last, if there is one
        growing, reads = (read, read - k) if num_layers > 1 else (0, read)
        held = 2 * c + growing + max(read, m) + max(reads + max(m, k), 2 * m)
        return c + num_layers * m, held + num_layers * m
    # Inputs of the layers and the output; concatenated, normalised, their gradients.
    return read + c, 3 * read + c + max(4 * m, 2 * read)


def _between(
    name: str,
    shape: Sequence[int],
    before: Sequence[int],
    config: Mapping[str, Any],
    n: int,
    size: int,
) -> int:
    """Bytes that the backward pass of a stem, transition or head holds at once."""
    if name == "stem" and config["stem"] == "cifar":
        return size * prod(shape)
    if name == "stem":  # convolution, BN, a gradient; indices; the pooled gradient
        c, h, w = shape
        full = c * (-(-before[1] // 2)) * (-(-before[2] // 2))
        return size * (3 * full + c * h * w) + 8 * n * c * h * w
    indices = 8 * n * before[0] * shape[1] * shape[2] * (config["pool"] == "max")
    return 3 * size * prod(before) + indices  # BN and two gradients
