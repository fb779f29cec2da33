"""The peak memory of a training step, in closed form, for each memory strategy."""

from collections.abc import Mapping, Sequence
from math import inf, prod
from numbers import Real
from typing import Any, NamedTuple

from d2l_dense.cost.densenet import DEFAULTS, summary
from d2l_dense.cost.tape import require
from d2l_dense.cost.turns import of_stage

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
    net = summary(config, input_shape, bytes_per_element=bytes_per_element)
    config = {**DEFAULTS, **config}
    memory = config["memory"]
    require(memory in MEMORY, "memory", memory, ", ".join(MEMORY))
    require(states in (0, 1, 2), "states", states, "0, 1 or 2")
    n = input_shape[0]
    candidates: list[tuple[int, str, int]] = []
    kept, before, later = 0, tuple(input_shape[1:]), 4 * net.parameters
    stages = [  # of one image
        row._replace(activation_bytes=row.activation_bytes // n)
        for row in net.by_stage()
    ]
    for stage, following in zip(stages, [*stages[1:], stages[-1]], strict=True):
        later -= 4 * stage.parameters  # gradients that are there by then
        own, turns = of_stage(stage, before, following, config, bytes_per_element)
        # One function hands over a block's gradients all at once.
        handed = memory == "shared" and stage.name.startswith("block")
        there = later + 4 * stage.parameters * handed
        for turn in turns:
            candidates.append((n * kept + turn.bytes(n) + there, stage.name, there))
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

    One more does not fit. (With memory="shared" and few images a still larger batch
    may: its parts may be smaller.) Returns 0 if not even one does. The other arguments
    are those of `peak`.

    Raises: ValueError, naming the argument, its value and what is allowed.
    """
    number = isinstance(budget, Real) and not isinstance(budget, bool)
    require(number and 0 < budget < inf, "budget", budget, "a number of bytes")
    images = isinstance(image_shape, Sequence) and len(image_shape) == 3
    require(images, "image_shape", image_shape, "(C, H, W)")

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
