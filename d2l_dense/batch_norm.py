"""Batch normalisation in its parts, so that they can be computed once and shared."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AXES = 0, 2, 3  # all but the channels
_aten = torch.ops.aten
# Minus infinity's bits as an integer. Other negative numbers are below, NaN is above.
_LOWEST = {torch.bfloat16: -128, torch.float16: -1024}


def single(dtype: torch.dtype) -> torch.dtype:
    """Single precision, or double if it is that."""
    return torch.promote_types(dtype, torch.float32)


def in_one_piece(x: Tensor) -> bool:
    """Whether x is a tensor of its own, and not some channels of a larger one."""
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def per_channel(channels: Tensor, like: Tensor) -> Tensor:
    """A number for each channel, to be used beside (N, C, H, W)."""
    return channels.to(like.dtype).view(-1, 1, 1)


def moments(X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, in single precision or better."""
    X = X.to(single(X.dtype))
    mean = X.mean(AXES)
    centred = X - mean[:, None, None]
    return mean, torch.mul(centred, centred, out=centred).mean(AXES)


def _fused_moments(X: Tensor) -> tuple[Tensor, Tensor]:
    """The same on a CPU, where one operation does it; X should be in one piece."""
    unused = X.new_zeros(X.shape[1], dtype=single(X.dtype))
    return torch.batch_norm_update_stats(X, unused, unused, 0.0)


class Moments:
    """Mean and variance of each channel, of a batch that comes in parts.

    Each part is read once, while it is at hand. Source: Chan et al. (1979).
    """

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.sizes: list[int] = []
        self.parts: list[tuple[Tensor, Tensor]] = []  # mean, squared deviations

    def add(self, X: Tensor) -> None:
        if self.wanted:
            self.sizes.append(len(X))
            one_pass = X.device.type == "cpu"
            self.parts.append((_fused_moments if one_pass else moments)(X))

    def of_all(self, like: Tensor) -> Tensor:
        """Mean and variance, (2, C), in single precision; zeros if none is wanted."""
        if not self.wanted:
            return like.new_zeros(2, like.shape[1], dtype=single(like.dtype))
        if len(self.parts) == 1:
            return torch.stack(self.parts[0])
        means, squares = (torch.stack(part) for part in zip(*self.parts, strict=True))
        shares = means.new_tensor(self.sizes)[:, None] / sum(self.sizes)
        mean = (shares * means).sum(0)
        squares = squares + (means - mean).square()
        return torch.stack((mean, (shares * squares).sum(0)))


class Line:
    """offset + slope * (x - mean), with a number of each for every channel.

    That is what batch normalisation computes, once its statistics are known. What is
    the same for all parts of a batch is computed once.
    """

    def __init__(
        self, like: Tensor, mean: Tensor, slope: Tensor, offset: Tensor
    ) -> None:
        self.in_half = like.dtype != mean.dtype
        if self.in_half:  # multiply and add in single precision, as BN's operation does
            self.of_norm = slope, offset, mean, torch.ones_like(mean)
            self.unused = mean.new_empty(2, 0).unbind()
        else:
            self.slope = per_channel(slope, like)
            shift = torch.addcmul(offset, mean, slope, value=-1)
            self.shift = per_channel(shift, like)

    def of(self, x: Tensor, out: Tensor) -> Tensor:
        """Write it to `out`."""
        if not self.in_half:
            return torch.addcmul(self.shift, x, self.slope, out=out)
        x = x if in_one_piece(x) else out.copy_(x)
        room = out, *self.unused
        torch.native_batch_norm(x, *self.of_norm, False, 0.0, 0.0, out=room)
        return out


def corrected(
    total: Tensor, x: Tensor, line: Line, scale: Tensor | None = None
) -> Callable[[slice], Tensor]:
    """Gives a part of total * scale + line.of(x).

    In half precision some channels of a larger tensor are copied before they are
    added: PyTorch is slow to add some numbers of them, such as 24 or 64.
    """

    def of_part(part: slice) -> Tensor:
        features, known = x[part], total[part]
        g = line.of(features, torch.empty_like(features))
        if line.in_half and not in_one_piece(known):
            known = known.clone()
        return g.add_(known) if scale is None else g.addcmul_(known, scale)

    return of_part


def relu_(x: Tensor) -> Tensor:
    """ReLU in place; in half precision on a CPU by the bits, which is faster there."""
    if x.dtype in _LOWEST and x.device.type == "cpu":
        F.threshold_(x.view(torch.int16), _LOWEST[x.dtype], 0)
        return x
    return x.relu_()


def relu_back(g: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """The gradient of what ReLU made y of; `out` may be g."""
    out = torch.empty_like(g) if out is None else out
    tensors = g, y, out
    if g.dtype in _LOWEST and g.device.type == "cpu":
        tensors = [tensor.view(torch.int16) for tensor in tensors]
    g, y, into = tensors
    _aten.threshold_backward.grad_input(g, y, 0, grad_input=into)
    return out


def of_batch(norm: nn.BatchNorm2d, count: int) -> bool:
    """Whether it normalises by the statistics of the batch, `count` values a channel.

    Raises:
        ValueError: if it does, and there are fewer than two.
    """
    found = norm.training or norm.running_mean is None
    if found and count < 2:
        raise ValueError(
            f"batch normalisation found {count} values per channel, expected "
            "two or more: train on a larger batch or larger images"
        )
    return found


def statistics(
    norm: nn.BatchNorm2d, known: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and 1 / deviation to normalise by, and the slope: weight / deviation.

    The running mean and variance follow the batch's.
    """
    if norm.num_features != known.shape[1]:
        raise ValueError(
            f"{known.shape[1]} channels came to a batch normalisation of "
            f"{norm.num_features}"
        )
    mean, var = known.unbind()
    if not of_batch(norm, count):
        # Copies: the next batch may update them before this one's backward pass.
        mean, var = (
            running.to(known, copy=True)
            for running in (norm.running_mean, norm.running_var)
        )
    elif norm.training and norm.track_running_stats:
        momentum = norm.momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            if momentum is None:  # a plain average over all batches
                momentum = 1 / norm.num_batches_tracked.item()
        if norm.running_mean is not None:
            norm.running_mean.lerp_(mean.to(norm.running_mean), momentum or 0.0)
            unbiased = var * (count / (count - 1))
            norm.running_var.lerp_(unbiased.to(norm.running_var), momentum or 0.0)
    rstd = (var + norm.eps).rsqrt()
    return mean, rstd, norm.weight.to(mean) * rstd
