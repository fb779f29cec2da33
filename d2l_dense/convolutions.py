"""Convolutions of a part of a batch, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2l_dense.batch_norm import single

_aten = torch.ops.aten


def convolve(conv: nn.Conv2d, Z: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.to(Z.dtype)
    (rows,) = in_rows(conv, Z)
    Y = F.conv2d(
        rows, kernel.to(Z.dtype), bias, conv.stride, conv.padding, conv.dilation,
        conv.groups,
    )  # fmt: skip
    return in_images(Y, Z)


def convolve_back(
    conv: nn.Conv2d, kernel: Tensor, g: Tensor, Z: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of Z, the kernel and the bias, as far as they are needed."""
    g_Z, *others = _aten.convolution_backward(
        *in_rows(conv, g, Z), kernel.to(Z.dtype), [len(kernel)],
        conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups, needed,
    )  # fmt: skip
    return g_Z if g_Z is None else in_images(g_Z, Z), *others


def in_rows(conv: nn.Conv2d, *tensors: Tensor) -> list[Tensor]:
    """(N, C, H, W) -> (N * H, C, 1, W), without a copy, if the convolution is 1x1.

    All tensors are, or none is. In single precision oneDNN is slower for fewer than 16
    images, and a part may have fewer; it may as well have many of one row.
    """
    simple = conv.kernel_size == conv.stride == (1, 1) and not any(conv.padding)
    if not (simple and all(map(_single_and_last, tensors))):
        return list(tensors)
    return [
        x.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(1).permute(0, 3, 1, 2)
        for x in tensors
    ]


def _single_and_last(x: Tensor) -> bool:
    """Whether x is in single precision, channels last and on a CPU."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return last and x.dtype == torch.float32 and x.device.type == "cpu"


def in_images(y: Tensor, like: Tensor) -> Tensor:
    """Undo `in_rows`."""
    if len(y) == len(like):
        return y
    (n, _, h, w), c = like.shape, y.shape[1]
    return y.permute(0, 2, 3, 1).reshape(n, h, w, c).permute(0, 3, 1, 2)


def add(
    sums: Sequence[Tensor | None], new: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Sums so far and what is new, in single precision or better."""
    return [
        b if b is None else b.to(single(b.dtype)) if a is None else a.add_(b)
        for a, b in zip(sums, new, strict=True)
    ]
