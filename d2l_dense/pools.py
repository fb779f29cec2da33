"""How a transition halves height and width."""

from functools import partial

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
