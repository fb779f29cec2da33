"""Batch normalisation in its parts, so that they can be computed once and shared."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AXES = 0, 2, 3  # all but the channels


def per_channel(channels: Tensor, like: Tensor) -> Tensor:
    """A number for each channel, to be used beside (N, C, H, W)."""
    return channels.to(like.dtype)[:, None, None]


def moments(X: Tensor) -> Tensor:
    """Mean and variance of each channel, (2, C), in single precision or better."""
    X = X.to(torch.promote_types(X.dtype, torch.float32))
    mean = X.mean(AXES)
    centred = X - mean[:, None, None]
    return torch.stack((mean, torch.mul(centred, centred, out=centred).mean(AXES)))


def statistics(
    norm: nn.BatchNorm2d, known: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation to normalise by; the running ones follow the batch's."""
    mean, var = known
    if not (norm.training or norm.running_mean is None):
        mean, var = norm.running_mean.to(mean), norm.running_var.to(mean)
    elif count == 1:
        raise ValueError(
            "batch normalisation found one value per channel, expected more: train "
            "on a larger batch or larger images"
        )
    elif norm.training and norm.track_running_stats:
        norm.num_batches_tracked += 1
        momentum = norm.momentum
        if momentum is None:  # a plain average over all batches
            momentum = 1 / norm.num_batches_tracked.item()
        norm.running_mean.lerp_(mean.to(norm.running_mean), momentum)
        unbiased = var * (count / (count - 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var), momentum)
    return mean, (var + norm.eps).rsqrt()


def normalise(
    x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """ReLU(BN(x))."""
    weight, bias = weight.to(mean), bias.to(mean)
    if x.dtype != mean.dtype:  # half precision: multiply and add in single
        Z = F.batch_norm(x, mean, rstd**-2, weight, bias, eps=0.0)
    else:
        scale = weight * rstd
        Z = torch.addcmul(per_channel(bias - mean * scale, x), x, per_channel(scale, x))
    return Z.relu_()
