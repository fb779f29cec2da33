"""Parts of a batch, small enough for a processor's cache, and room for them."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from d2l_dense.cost.turns import PART, part_size


def parts(x: Tensor, shape: Sequence[int] | None = None) -> list[slice]:
    """Cut a batch into parts of at most `PART` bytes, or of one image, alike in size.

    On a CPU a part stays in the cache; elsewhere it is large enough to be worth it.

    Args:
        shape: of what is made of the batch, if that is what needs the room.
    """
    room = PART if x.device.type == "cpu" else 4 * PART
    image = prod((shape or x.shape)[1:]) * x.element_size()
    size = part_size(len(x), image, room)
    return [slice(i, i + size) for i in range(0, max(1, len(x)), size)]


def scratch(x: Tensor) -> Tensor:
    """Room for a part."""
    return empty_like(x, x[parts(x)[0]].shape)


def empty_like(x: Tensor, shape: Sequence[int]) -> Tensor:
    """An empty tensor of a shape, laid out as x is, or as that which x is a part of."""
    last = x.stride(1) == 1 and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
