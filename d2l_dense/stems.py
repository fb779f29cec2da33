"""What comes before the first block, and how weights begin."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from d2l_dense.recompute import Recomputed


def imagenet_stem(
    in_channels: int, num_channels: int, bias: bool, memory: str = "plain"
) -> Recomputed:
    """A quarter of the side: (N, in_channels, H, W) -> (N, num_channels, H/4, W/4)."""
    pool = _LeanMaxPool2d if memory == "shared" else nn.MaxPool2d
    # ReLU never decreases, so the maximum of ReLU is ReLU of the maximum: after
    # the pooling, it has a quarter of the work.
    stem = Recomputed(
        nn.Conv2d(in_channels, num_channels, 7, stride=2, padding=3, bias=bias),
        nn.BatchNorm2d(num_channels),
        pool(kernel_size=3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    )
    stem.recomputed = memory != "plain"
    return stem


def _cifar_stem(
    in_channels: int, num_channels: int, bias: bool, memory: str
) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, num_channels, kernel_size=3, padding=1, bias=bias)
    return nn.Sequential(conv)


STEMS = {"imagenet": imagenet_stem, "cifar": _cifar_stem}


class _LeanMaxPool2d(nn.MaxPool2d):
    """Max pooling that writes its gradient over its input, which must be its alone."""

    def forward(self, X: Tensor) -> Tensor:
        return _LeanMaxPool.apply(X, self.kernel_size, self.stride, self.padding)


class _LeanMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, X: Tensor, kernel_size: int, stride: int, padding: int
    ) -> Tensor:
        ctx.window = [kernel_size] * 2, [stride] * 2, [padding] * 2, [1, 1], False
        Y, indices = torch.ops.aten.max_pool2d_with_indices(X, *ctx.window)
        ctx.save_for_backward(X, indices)
        return Y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        X, indices = ctx.saved_tensors  # of X, only the shape is read
        torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
            grad, X, *ctx.window, indices, grad_input=X
        )
        return X, None, None, None


def initialise(module: nn.Module) -> None:
    """Start a layer as He et al. (2015) do; the paper, section 4.2."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
