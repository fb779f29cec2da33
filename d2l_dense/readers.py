"""What reads features: batch normalisation, ReLU, perhaps pooling and a convolution.

A reader works on a part of the batch at a time, so that what it needs beside the
features is small, and on a CPU stays in the cache from one operation to the next.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from d2l_dense.batch_norm import (
    Line,
    Moments,
    in_one_piece,
    per_channel,
    relu_,
    relu_back,
)
from d2l_dense.convolutions import add, convolve, convolve_back, in_type
from d2l_dense.norm_gradients import NormGradients
from d2l_dense.parts import empty_like, parts, scratch
from d2l_dense.pools import pooled


class Reader(NamedTuple):
    """BN, ReLU, perhaps a pooling, and a convolution."""

    norm: nn.BatchNorm2d
    pool: nn.Module | None
    conv: nn.Conv2d

    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.norm.weight, self.norm.bias, self.conv.weight, self.conv.bias

    @property
    def pools_first(self) -> bool:
        """Whether ReLU comes after the pooling: the same, but for an average."""
        return self.pool is not None and not isinstance(self.pool, nn.AvgPool2d)

    def read(
        self,
        x: Tensor,
        statistics: tuple[Tensor, Tensor, Tensor],
        out: Tensor | None = None,
        measure: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the output, in `out` if there is room, and its mean and variance.

        Args:
            statistics: as the function of that name returns them.
            measure: whether mean and variance are wanted.
        """
        room, moments = scratch(x), Moments(measure)
        _, bias, *of_conv = self.tensors()
        kernel, shift = in_type(x.dtype, *of_conv)
        mean, _, slope = statistics
        norm = Line(x, mean, slope, bias.to(mean))
        for part in parts(x):
            features = x[part]
            Y = norm.of(features, room[: len(features)])
            if not self.pools_first:
                relu_(Y)
            if self.pool is not None:
                Y = self.pool(Y)
            if self.pools_first:
                relu_(Y)
            Y = convolve(self.conv, Y, kernel, shift)
            if out is None:
                out = empty_like(x, (len(x), *Y.shape[1:]))
            out[part] = Y
            moments.add(Y)
        return out, moments.of_all(out)

    def read_back(
        self,
        arriving: Callable[[slice], Tensor],
        x: Tensor,
        statistics: tuple[Tensor, Tensor, Tensor],
        tensors: Sequence[Tensor | None],
        needed: Sequence[bool],
        known: Tensor | None,
        into: Tensor,
        scaled: bool = True,
    ) -> list[Tensor | None]:
        """Add to `known` what passes ReLU and the scale of BN, and write it to `into`.

        What passes through BN's mean and deviation is left to the caller; so is the
        scale, where there is nothing known, unless `scaled`.

        Args:
            arriving: gives a part of the output's gradient.
            statistics: as the function of that name returned them.
            tensors, needed: of `tensors`, as they were, and whether it has a gradient.

        Returns: the gradients of `tensors`.
        """
        weight, bias, kernel, _ = tensors
        (kernel,) = in_type(x.dtype, kernel)
        mean, rstd, slope = statistics
        bias = bias.to(mean)
        norm, scale = Line(x, mean, slope, bias), per_channel(slope, x)
        conv = self.conv if needed[2] else None
        of_norm = NormGradients(x, mean, rstd, weight.to(mean), bias, conv)
        of_conv: list[Tensor | None] = [None, None]
        copied = not (of_norm.by_kernel or in_one_piece(x))
        room = scratch(x) if copied else None
        for part in parts(x):
            features, target = x[part], into[part]
            if room is not None:
                features = room[: len(features)].copy_(features)
            Z = norm.of(features, empty_like(x, features.shape))
            out = None if scaled else target
            g, *new = self._normal_back(arriving(part), Z, kernel, needed[2:], out)
            del Z
            of_norm.add(g, features)
            of_conv = add(of_conv, new)
            if known is not None:
                torch.addcmul(known[part], g, scale, out=target)
            elif scaled:
                torch.mul(g, scale, out=target)
            del g, out  # before the next part needs the room
        return [*of_norm.of_all(kernel, of_conv[0]), *of_conv]

    def _normal_back(
        self,
        g: Tensor,
        Z: Tensor,
        kernel: Tensor,
        needed: Sequence[bool],
        out: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Gradients of Z, which BN made and this overwrites, and of the convolution.

        That of Z is in `out`, if given: where ReLU is what follows BN.
        """
        Y = Z
        if not self.pools_first:
            relu_(Z)
        if self.pool is not None:
            Y, back = pooled(self.pool, Z)
        if self.pools_first:
            relu_(Y)
        g, *of_conv = convolve_back(self.conv, kernel, g, Y, [True, *needed])
        if self.pools_first:
            g = relu_back(g, Y, g)
        if self.pool is not None:
            g = back(g)
        if not self.pools_first:
            g = relu_back(g, Z, g if out is None else out)
        return g, *of_conv
