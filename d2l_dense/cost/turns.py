"""What the backward pass of a stage holds, turn by turn, for each memory strategy."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from d2l_dense.cost.tape import Row

# Bytes of a batch that memory="shared" works on at a time, on a CPU. Elsewhere they are
# four times as many, which is left out here: it is less than 0.2 GB.
PART = 8 << 20


def part_size(n: int, image: int, room: int) -> int:
    """Images in a part: what fits into `room` bytes, or one; all parts are alike."""
    n, most = max(1, n), max(1, room // max(1, image))
    return -(-n // -(-n // most))  # no more parts than need be, and no larger


class Turn(NamedTuple):
    """Bytes that a turn holds: some an image, and more an image of a part.

    A part has as many images as fit into `PART` bytes, `unit` bytes each, or less.
    """

    an_image: int
    in_part: int = 0
    unit: int = 1

    def bytes(self, n: int) -> int:
        """What it holds for n images."""
        return n * self.an_image + part_size(n, self.unit, PART) * self.in_part


def of_stage(
    stage: Row,
    before: Sequence[int],
    following: Row,
    config: Mapping[str, Any],
    size: int,
) -> tuple[int, list[Turn]]:
    """Bytes an image that a stage keeps for its backward pass, and the turns of that.

    Args:
        stage: its row, for one image.
        before: shape (C, H, W) of what it reads.
        following: the stage after it.
        size: bytes of an element.
    """
    memory, is_block = config["memory"], stage.name.startswith("block")
    if memory == "plain":  # all is kept when the stage's gradient arrives
        turns = [] if is_block else [_between(stage, before, config, size)]
        turns.append(Turn(stage.activation_bytes + size * prod(stage.shape)))
        return stage.activation_bytes, turns
    if not is_block:
        stem = stage.name == "stem" and config["stem"] == "imagenet"
        kept = size * prod(stage.shape) if stem and memory == "shared" else 0  # maxima
        return kept, [_between(stage, before, config, size)]
    c, h, w = stage.shape
    k, pixels = config["growth_rate"], size * h * w
    m, read = (config["bottleneck"] or 0) * k, c - k  # the last layer reads so many
    if memory == "checkpoint":
        # Kept: inputs of the layers and the output. The last layer's turn: what is
        # concatenated, normalised, and the gradients of both.
        work = 3 * read + c + max(4 * m, 2 * read)
        return pixels * (read + c), [Turn(pixels * work)]
    # Kept: the buffer and the outputs of the bottlenecks. There in each turn: they, the
    # buffer's gradient as it grows, and the one that came.
    first, kept = before[0], c + (c - before[0]) // k * m
    there = pixels * (kept + read + c)
    turns = []
    if following.name.startswith("transition"):
        there = pixels * (kept + c) + size * prod(following.shape)
        maximum = config["pool"] == "max"
        pooled = prod(following.shape[1:]) * c
        # Normalised, pooled, and the gradients of both; indices of a maximum.
        in_part = 2 * (pixels * c + size * pooled) + 8 * pooled * maximum
        turns.append(Turn(there, in_part, pixels * c))
    # A layer's: what it reads, normalised, its gradient, the one that came.
    for reads in (first, read):
        in_part = 3 * reads + max(m, k)
        turns.append(Turn(there + pixels * m, pixels * in_part, pixels * reads))
    if m:
        turns.append(Turn(there + pixels * m, pixels * (2 * m + k), pixels * m))
    turns.append(Turn(there + pixels * first, pixels * first, pixels * first))
    return pixels * kept, turns


def _between(
    stage: Row, before: Sequence[int], config: Mapping[str, Any], size: int
) -> Turn:
    """The turn of a stem, transition or head."""
    if stage.name == "stem" and config["stem"] == "cifar":
        return Turn(size * prod(stage.shape))
    lean = config["memory"] == "shared"
    if stage.name == "stem":
        c, h, w = stage.shape
        full, pooled = (c, -(-before[1] // 2), -(-before[2] // 2)), c * h * w
        if lean:  # the maxima, their gradient, the one that came
            in_part = size * (2 * prod(full) + pooled) + 8 * pooled
            return Turn(3 * size * pooled, in_part, size * prod(full))
        # Convolution, BN, a gradient; indices; the pooled gradient.
        return Turn(size * (3 * prod(full) + pooled) + 8 * pooled)
    if lean and stage.name != "head":
        return Turn(0)  # the block's, which it shares
    maximum = stage.name != "head" and config["pool"] == "max"
    indices = 8 * before[0] * stage.shape[1] * stage.shape[2] * maximum
    return Turn(3 * size * prod(before) + indices)  # BN and two gradients
