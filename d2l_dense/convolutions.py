"""Convolutions of a part of a batch, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2l_dense.batch_norm import single

_aten = torch.ops.aten


def convolve(conv: nn.Conv2d, Z: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve, with a kernel and perhaps a bias of Z's type."""
    if _as_matrices(conv, Z):
        return _images(F.linear(_matrix(Z), kernel.flatten(1), bias), Z)
    (rows,) = in_rows(conv, Z)
    Y = F.conv2d(
        rows, kernel, bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    return in_images(Y, Z)


def in_type(dtype: torch.dtype, *tensors: Tensor | None) -> list[Tensor | None]:
    """Tensors in that type, as a convolution needs its kernel and its bias."""
    return [t if t is None else t.to(dtype) for t in tensors]


def output_shape(conv: nn.Conv2d, X: Tensor) -> tuple[int, ...]:
    """The shape of what it makes of X."""
    of_sides = X.shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation
    sides = (
        (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for side, kernel, stride, padding, dilation in zip(*of_sides, strict=True)
    )
    return len(X), conv.out_channels, *sides


def convolve_back(
    conv: nn.Conv2d, kernel: Tensor, g: Tensor, Z: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients of Z, the kernel and the bias, as far as they are needed."""
    if _as_matrices(conv, g, Z):
        y, z = _matrix(g), _matrix(Z)
        return [
            _images(y @ kernel.flatten(1), Z) if needed[0] else None,
            (z.T @ y).T.reshape(kernel.shape) if needed[1] else None,  # y.T @ z: slower
            y.sum(0) if needed[2] else None,
        ]
    g_Z, *others = _aten.convolution_backward(
        *in_rows(conv, g, Z), kernel, [len(kernel)], conv.stride, conv.padding,
        conv.dilation, False, [0, 0], conv.groups, needed,
    )  # fmt: skip
    return [g_Z if g_Z is None else in_images(g_Z, Z), *others]


def _pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == conv.stride == (1, 1) and not any(conv.padding)


def _last(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether x is of that type, channels last and on a CPU."""
    fits = x.dtype == dtype and x.device.type == "cpu"
    return fits and x.is_contiguous(memory_format=torch.channels_last)


def _as_matrices(conv: nn.Conv2d, *tensors: Tensor) -> bool:
    """Whether a product of matrices is the same, and faster: 1x1, in bf16."""
    fits = _pointwise(conv) and conv.groups == 1
    return fits and all(_last(x, torch.bfloat16) for x in tensors)


def _matrix(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C), without a copy."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _images(y: Tensor, like: Tensor) -> Tensor:
    """Undo `_matrix`."""
    n, _, h, w = like.shape
    return y.view(n, h, w, y.shape[1]).permute(0, 3, 1, 2)


def in_rows(conv: nn.Conv2d, *tensors: Tensor) -> list[Tensor]:
    """(N, C, H, W) -> (N * H, C, 1, W), without a copy, if the convolution is 1x1.

    All tensors are, or none is. In single precision oneDNN is slower for fewer than 16
    images, and a part may have fewer; it may as well have many of one row.
    """
    few = tensors[0].shape[0] < 16 and _pointwise(conv)
    if not (few and all(_last(x, torch.float32) for x in tensors)):
        return list(tensors)
    return [
        x.as_strided((n * h, c, 1, w), (w * c, 1, w * c, c))
        for x in tensors
        for n, c, h, w in [x.shape]
    ]


def in_images(y: Tensor, like: Tensor) -> Tensor:
    """Undo `in_rows`."""
    n, _, h, w = like.shape
    rows, c, *_ = y.shape
    if rows == n:
        return y
    of_row, of_channel, _, of_pixel = y.stride()
    return y.as_strided((n, c, h, w), (h * of_row, of_channel, of_row, of_pixel))


def add(
    sums: Sequence[Tensor | None], new: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Sums so far and what is new, in single precision or better."""
    return [
        b if b is None else b.to(single(b.dtype)) if a is None else a.add_(b)
        for a, b in zip(sums, new, strict=True)
    ]
