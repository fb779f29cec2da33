"""Gradients of batch normalisation's weight and bias, of a batch that comes in parts.

With g the gradient of y = weight * x_hat + bias, which ReLU has set to zero wherever y
is not positive, they are the sums of g * x_hat and of g over a channel's values.
"""

import torch
from torch import Tensor, nn

from d2l_dense.batch_norm import AXES, single
from d2l_dense.convolutions import add

_aten = torch.ops.aten


class NormGradients:
    """Sums both; what a convolution knows already is not summed again.

    ReLU, pooling and convolution pass on a factor: t times the weight and the bias
    change nothing if the kernel is divided by t. So, for each channel of x,

        weight * its gradient + bias * its gradient = sum(kernel * its gradient),

    and the weight's takes no pass over g and x. Where the weight is small beside the
    bias, the division by it would lose digits: these channels are summed directly. So
    are all of them in half precision, in which the kernel's gradient is rounded, and
    elsewhere than on a CPU, which would have to wait for the weights.

    Chapter: "How would you change the framework?".

    Args:
        x: (N, C, H, W), what BN reads.
        mean, rstd: C numbers each, to normalise by.
        weight, bias: BN's, as are mean and rstd in single precision or better.
        conv: what follows ReLU and pooling, if its kernel's gradient is computed.
    """

    def __init__(
        self,
        x: Tensor,
        mean: Tensor,
        rstd: Tensor,
        weight: Tensor,
        bias: Tensor,
        conv: nn.Conv2d | None,
    ) -> None:
        self.of_norm = mean, rstd, weight, bias
        has_values = type(x) is Tensor and x.device.type == "cpu"
        in_full = x.dtype == single(x.dtype)
        known = conv is not None and conv.groups == 1
        self.by_kernel = has_values and in_full and known
        if self.by_kernel:  # the channels whose weight is small
            self.small = (8 * weight.abs() <= bias.abs()).nonzero().flatten()
        self.sums: list[Tensor | None] = [None, None]

    def add(self, g: Tensor, x: Tensor) -> None:
        """Add a part's; x should be in one piece unless `by_kernel`."""
        mean, rstd = self.of_norm[:2]
        if not self.by_kernel:
            new = _summed(g, x, mean, rstd)
        else:  # of the weights only those that are small
            new = None, g.sum(AXES)
            if len(self.small):
                g, x = g.index_select(1, self.small), x.index_select(1, self.small)
                of_small = _summed(g, x, mean[self.small], rstd[self.small])
                new = of_small[0], new[1]
        self.sums = add(self.sums, new)

    def of_all(
        self, kernel: Tensor | None, of_kernel: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Gradients of weight and bias, given the kernel and its gradient."""
        of_weight, of_bias = self.sums
        if self.by_kernel:
            _, _, weight, bias = self.of_norm
            whole = torch.mul(kernel, of_kernel).sum(AXES)
            whole.addcmul_(bias, of_bias, value=-1).div_(weight)
            if len(self.small):
                whole[self.small] = of_weight
            of_weight = whole
        return of_weight, of_bias


def _summed(g: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of g * x_hat and of g.

    They come from BN's own backward pass, which sums in single precision and centres:
    a sum of g * x would lose what x varies by.
    """
    if not len(x):  # where that divides by zero, and ends the process
        return torch.zeros_like(mean), torch.zeros_like(mean)
    weight = rstd  # of no account, but it has to be one
    _, of_weight, of_bias = _aten.native_batch_norm_backward(
        g, x, weight, None, None, mean, rstd, True, 0.0, [False, True, True]
    )
    return of_weight, of_bias
