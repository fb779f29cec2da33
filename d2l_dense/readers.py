"""What reads features: batch normalisation, ReLU, perhaps pooling and a convolution.

A reader works on a part of the batch at a time, so that what it needs beside the
features is small, and on a CPU stays in the cache from one operation to the next.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2l_dense.batch_norm import AXES, Moments, normalise, per_channel, single
from d2l_dense.cost.turns import PART

_aten = torch.ops.aten


class Reader(NamedTuple):
    """BN, ReLU, and what may follow them. ReLU comes before the pooling."""

    norm: nn.BatchNorm2d
    pool: nn.Module | None
    conv: nn.Conv2d | None

    def tensors(self) -> tuple[Tensor | None, ...]:
        conv = (None, None) if self.conv is None else (self.conv.weight, self.conv.bias)
        return self.norm.weight, self.norm.bias, *conv

    @property
    def of_batch(self) -> bool:
        """Whether it normalises by the batch's own statistics."""
        return self.norm.training or self.norm.running_mean is None

    def read(
        self,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        out: Tensor | None = None,
        of_batch: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the output, in `out` if there is room, and its mean and variance."""
        room, moments = scratch(x), Moments(of_batch)
        for part in parts(x):
            Z = room[: len(x[part])]
            Y = normalise(x[part], mean, rstd, self.norm.weight, self.norm.bias, Z)
            Y = Y if self.pool is None else self.pool(Y)
            if self.conv is not None:
                Y = convolve(self.conv, Y, self.conv.weight, self.conv.bias)
            if out is None:
                out = empty_like(x, (len(x), *Y.shape[1:]))
            out[part] = Y
            moments.add(Y)
        return out, moments.of_all(out)

    def read_back(
        self,
        arriving: Callable[[slice], Tensor],
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        tensors: Sequence[Tensor | None],
        needed: Sequence[bool],
        known: Tensor | None,
        into: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Add to `known` what passes ReLU and the scale of BN, and write it to `into`.

        What passes through BN's mean and deviation is left to the caller.

        Args:
            arriving: gives a part of the output's gradient.
            tensors, needed: of `tensors`, as they were, and whether it has a gradient.

        Returns: the gradients of `tensors`.
        """
        weight, bias, kernel, _ = tensors
        scale = per_channel(weight.to(mean) * rstd, x)
        g_bias, product = torch.zeros_like(mean), torch.zeros_like(mean)
        of_conv = [None, None]
        room = scratch(x)
        for part in parts(x):
            g, features = arriving(part), x[part]
            Z = room[: len(features)]
            normalise(features, mean, rstd, weight, bias, Z)
            if self.pool is not None:
                with torch.enable_grad():
                    unpooled = Z.detach().requires_grad_()
                    pooled = self.pool(unpooled)
            if kernel is not None:
                P = Z if self.pool is None else pooled.detach()
                g, *new = convolve_back(self.conv, kernel, g, P, [True, *needed[2:]])
                of_conv = add(of_conv, new)
            if self.pool is not None:
                (g,) = torch.autograd.grad(pooled, unpooled, g)
            _aten.threshold_backward.grad_input(g, Z, 0, grad_input=g)
            g_bias += g.sum(AXES, dtype=mean.dtype)
            # Centred in single precision: a sum of g * x would lose what x varies by.
            centred = torch.sub(features, mean[:, None, None], out=Z.to(mean.dtype))
            product += centred.mul_(g).sum(AXES)
            if known is None:
                torch.mul(g, scale, out=into[part])
            else:
                torch.addcmul(known[part], g, scale, out=into[part])
        return product * rstd, g_bias, *of_conv


def gradient(
    total: Tensor, x: Tensor, mean: Tensor, offset: Tensor, slope: Tensor
) -> Callable[[slice], Tensor]:
    """Gives a part of total - offset - slope * (x - mean)."""
    a, b = per_channel(slope * mean - offset, x), per_channel(-slope, x)
    return lambda part: torch.addcmul(a, x[part], b).add_(total[part])


def back_to_source(
    source: nn.Conv2d,
    kernel: Tensor,
    g: Callable[[slice], Tensor],
    X: Tensor,
    features: Tensor,
    needed: list[bool],
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Gradients of what `source` takes, and of its kernel and bias."""
    wanted = [needed[0], *needed[-2:]]
    g_X = empty_like(X, X.shape) if needed[0] else None
    sums = [None, None]
    for part in parts(features):
        new, *others = convolve_back(source, kernel, g(part), X[part], wanted)
        if needed[0]:
            g_X[part] = new
        sums = add(sums, others)
    return g_X, sums


def convolve(conv: nn.Conv2d, Z: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(
        Z, kernel.to(Z.dtype), None if bias is None else bias.to(Z.dtype),
        conv.stride, conv.padding, conv.dilation, conv.groups,
    )  # fmt: skip


def convolve_back(
    conv: nn.Conv2d, kernel: Tensor, g: Tensor, Z: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of Z, the kernel and the bias, as far as they are needed."""
    return _aten.convolution_backward(
        g, Z, kernel.to(Z.dtype), [len(kernel)], conv.stride, conv.padding,
        conv.dilation, False, [0, 0], conv.groups, needed,
    )  # fmt: skip


def add(
    sums: Sequence[Tensor | None], new: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Sums so far and what is new, in single precision or better."""
    return [
        b if b is None else b.to(single(b.dtype)) if a is None else a.add_(b)
        for a, b in zip(sums, new, strict=True)
    ]


def parts(x: Tensor) -> list[slice]:
    """Cut a batch into parts of `PART` bytes, or of one image.

    On a CPU a part stays in the cache; elsewhere it is large enough to be worth it.
    """
    room = PART if x.device.type == "cpu" else 8 * PART
    size = max(1, room // max(1, prod(x.shape[1:]) * x.element_size()))
    return [slice(i, i + size) for i in range(0, max(1, len(x)), size)]


def scratch(x: Tensor) -> Tensor:
    """Room for a part."""
    return empty_like(x, x[parts(x)[0]].shape)


def empty_like(x: Tensor, shape: Sequence[int]) -> Tensor:
    """An empty tensor of a shape, laid out as x is, or as that which x is a part of."""
    last = x.stride(1) == 1 and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
