"""Batch normalisation in its parts, so that they can be computed once and shared."""

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
            X = X.to(single(X.dtype))
            mean = X.mean(AXES)
            centred = X - mean[:, None, None]
            squares = torch.mul(centred, centred, out=centred).mean(AXES)
            self.parts.append((mean, squares))

    def of_all(self, like: Tensor) -> Tensor:
        """Mean and variance, (2, C), in single precision; zeros if none is wanted."""
        if not self.wanted:
            return like.new_zeros(2, like.shape[1], dtype=single(like.dtype))
        means, squares = (torch.stack(part) for part in zip(*self.parts, strict=True))
        shares = means.new_tensor(self.sizes)[:, None] / sum(self.sizes)
        mean = (shares * means).sum(0)
        squares = squares + (means - mean).square()
        return torch.stack((mean, (shares * squares).sum(0)))


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


def statistics(
    norm: nn.BatchNorm2d, known: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation to normalise by; the running ones follow the batch's."""
    if norm.num_features != known.shape[1]:
        raise ValueError(
            f"{known.shape[1]} channels came to a batch normalisation of "
            f"{norm.num_features}"
        )
    mean, var = known
    if not (norm.training or norm.running_mean is None):
        mean, var = norm.running_mean.to(mean), norm.running_var.to(mean)
    elif norm.training and norm.track_running_stats:
        momentum = norm.momentum
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1
            if momentum is None:  # a plain average over all batches
                momentum = 1 / norm.num_batches_tracked.item()
        if norm.running_mean is not None:
            norm.running_mean.lerp_(mean.to(norm.running_mean), momentum or 0.0)
            unbiased = var * (count / (count - 1))
            norm.running_var.lerp_(unbiased.to(norm.running_var), momentum or 0.0)
    return mean, (var + norm.eps).rsqrt()
