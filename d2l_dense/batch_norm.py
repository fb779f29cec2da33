"""Batch normalisation in its parts, so that they can be computed once and shared."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

AXES = 0, 2, 3  # all but the channels
_aten = torch.ops.aten


def single(dtype: torch.dtype) -> torch.dtype:
    """Single precision, or double if it is that."""
    return torch.promote_types(dtype, torch.float32)


def per_channel(channels: Tensor, like: Tensor) -> Tensor:
    """A number for each channel, to be used beside (N, C, H, W)."""
    return channels.to(like.dtype)[:, None, None]


def scratch(buffer: Tensor, widest: int) -> Callable[[int], Tensor]:
    """Return a function of a number of channels: room for so many, always the same.

    Room made anew costs time where the system first has to clear its pages.
    """
    n, _, h, w = buffer.shape
    room = buffer.new_empty(n * h * w * widest)

    def of(channels: int) -> Tensor:
        part = room[: n * h * w * channels]
        if buffer.is_contiguous():
            return part.view(n, channels, h, w)
        return part.view(n, h, w, channels).permute(0, 3, 1, 2)

    return of


def moments(X: Tensor) -> Tensor:
    """Mean and variance of each channel, (2, C), in single precision or better."""
    X = X.to(single(X.dtype))
    mean = X.mean(AXES)
    centred = X - mean[:, None, None]
    return torch.stack((mean, torch.mul(centred, centred, out=centred).mean(AXES)))


def normalise(
    x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, out: Tensor
) -> Tensor:
    """Write ReLU(BN(x)) to `out`."""
    weight, bias = weight.to(mean), bias.to(mean)
    if x.dtype != mean.dtype:  # half precision: multiply and add in single
        unused = mean.new_empty(2, 0)
        _aten.native_batch_norm.out(
            out.copy_(x), weight, bias, mean, rstd**-2, False, 0.0, 0.0,
            out=out, save_mean=unused[0], save_invstd=unused[1],
        )  # fmt: skip
    else:
        scale = weight * rstd
        shift = per_channel(bias - mean * scale, x)
        torch.addcmul(shift, x, per_channel(scale, x), out=out)
    return out.relu_()


def normalise_by_batch(
    x: Tensor, norm: nn.BatchNorm2d, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Write ReLU(BN(x)) to `out`, by the batch's own mean and variance.

    Returns: the mean and 1 / deviation; the running ones have followed.
    """
    mean, rstd = x.new_empty(2, x.shape[1], dtype=single(x.dtype)).unbind()
    momentum = follow(norm)
    running = (norm.running_mean, norm.running_var) if momentum else ()
    followed = [tensor.to(mean) for tensor in running] or [None, None]
    _aten.native_batch_norm.out(
        x, norm.weight.to(mean), norm.bias.to(mean), *followed, True, momentum,
        norm.eps, out=out, save_mean=mean, save_invstd=rstd,
    )  # fmt: skip
    for tensor, new in zip(running, followed, strict=False):
        tensor.copy_(new)  # itself, but for running statistics in half precision
    out.relu_()
    return mean, rstd


def follow(norm: nn.BatchNorm2d) -> float:
    """Count a batch; return by which share the running statistics move towards it."""
    if not (norm.training and norm.track_running_stats):
        return 0.0
    norm.num_batches_tracked += 1
    if norm.momentum is None:  # a plain average over all batches
        return 1 / norm.num_batches_tracked.item()
    return norm.momentum


def statistics(
    norm: nn.BatchNorm2d, known: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation to normalise by; the running ones follow the batch's."""
    mean, var = known
    if not (norm.training or norm.running_mean is None):
        mean, var = norm.running_mean.to(mean), norm.running_var.to(mean)
    elif momentum := follow(norm):
        norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
        unbiased = var * (count / (count - 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var), momentum)
    return mean, (var + norm.eps).rsqrt()
