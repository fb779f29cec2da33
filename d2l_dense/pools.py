"""How a transition halves height and width."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn


class FirstPixel(nn.Module):
    """Take the first of each 2x2 pixels."""

    def forward(self, X: Tensor) -> Tensor:
        h, w = X.shape[2] // 2 * 2, X.shape[3] // 2 * 2
        return X[:, :, :h:2, :w:2]


POOLS = {
    "avg": partial(nn.AvgPool2d, kernel_size=2),
    "max": partial(nn.MaxPool2d, kernel_size=2),
    "stride": FirstPixel,
}


def pooled(pool: nn.Module, X: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What a pooling makes of X, and what makes of its gradient that of X."""
    with torch.enable_grad():
        X = X.detach().requires_grad_()
        Y = pool(X)
    return Y.detach(), lambda g: torch.autograd.grad(Y, X, g)[0]
