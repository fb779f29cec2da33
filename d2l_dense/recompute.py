"""Train in less memory: keep the features once, and compute again what is cheap.

Autograd keeps two tensors as wide as all that a dense layer reads: the concatenated
features, and what batch normalization and ReLU make of them. Both follow from the
features, which are kept anyway. So both strategies here keep the features alone.
"checkpoint" runs the whole layer again in the backward pass, with PyTorch's own
function; "shared" runs all of it again but the convolution.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight
from torch.utils.checkpoint import checkpoint

MEMORY = ("plain", "checkpoint", "shared")


def concatenate(features: Sequence[Tensor]) -> Tensor:
    """Join features along the channels; one alone is not copied."""
    return features[0] if len(features) == 1 else torch.cat(tuple(features), dim=1)


@torch.compiler.disable  # it cannot trace the change of the statistics
def recompute(module: nn.Module, *features: Tensor) -> Tensor:
    """Apply a module to concatenated features, and run it again to go backward.

    Only the features are kept. The running statistics of batch normalization move
    once, as they should: PyTorch's checkpoint alone moves them in both passes.

    Shape: each (N, C_i, H, W), together (N, C, H, W) -> that of module(X)

    Source: Chen et al. (2016); PyTorch issue 96136. Chapter: "Checkpointing".
    """
    passes = count()

    def run(*features: Tensor) -> Tensor:
        X = concatenate(features)
        if next(passes) == 0:
            return module(X)
        with frozen_statistics(module):
            return module(X)

    return checkpoint(run, *features, use_reentrant=False)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Within this context, batch normalization leaves its running statistics alone."""
    norms = [m for m in module.modules() if getattr(m, "track_running_stats", False)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, batches in before:
        norm.momentum, norm.num_batches_tracked = 0.0, batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches


@torch.compiler.disable  # it cannot trace the function below
def shared_layer(layer: nn.Sequential, *features: Tensor) -> Tensor:
    """Apply a dense layer; keep the features and the outputs of its convolutions.

    A layer of another form, or with hooks, is checkpointed instead.

    Shape: each (N, C_i, H, W), together (N, C, H, W) -> (N, growth_rate, H, W)

    Source: Pleiss et al. (2017). Chapter: "One function: change the block".
    """
    if not _is_dense_layer(layer):
        return recompute(layer, *features)
    for norm, conv in zip(layer[::3], layer[2::3], strict=True):
        parameters = norm.weight, norm.bias, conv.weight, conv.bias
        features = (_PreActivation.apply(norm, conv, *parameters, *features),)
    return features[0]


def _is_dense_layer(layer: nn.Module) -> bool:
    """Whether it is BN, ReLU and convolution, once or twice, and nobody listens in."""
    unit = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    modules = list(layer.modules())
    if [type(m) for m in modules] not in ([nn.Sequential, *unit * n] for n in (1, 2)):
        return False
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in modules)
    hooked |= any(m._backward_hooks or m._backward_pre_hooks for m in modules)
    usual = all(m.affine and m.track_running_stats and m.momentum for m in layer[::3])
    return usual and not hooked and all(m.padding_mode == "zeros" for m in layer[2::3])


class _PreActivation(torch.autograd.Function):
    """Concatenation, batch normalization, ReLU and convolution as one function.

    It keeps the features, the parameters, and of each channel the mean and the
    reciprocal standard deviation. The rest is computed again, but no convolution.
    """

    @staticmethod
    def forward(ctx, norm, conv, weight, bias, kernel, shift, *features):
        X = concatenate(features)  # (N, C, H, W)
        if norm.training and X.numel() == X.shape[1]:
            raise ValueError("Expected more than 1 value per channel when training")
        running = norm.running_mean, norm.running_var
        options = norm.training, norm.momentum, norm.eps
        Y, mean, rstd = torch.native_batch_norm(X, weight, bias, *running, *options)
        if norm.training:
            norm.num_batches_tracked.add_(1)
        else:
            mean, rstd = running[0].clone(), (running[1] + norm.eps).rsqrt()
        ctx.norm, ctx.conv, ctx.training = norm, conv, norm.training
        ctx.save_for_backward(weight, bias, kernel, mean, rstd, *features)
        return conv(Y.relu_())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        weight, bias, kernel, mean, rstd, *features = ctx.saved_tensors
        conv, eps = ctx.conv, ctx.norm.eps
        X, var = concatenate(features), rstd.pow(-2) - eps
        A = F.batch_norm(X, mean, var, weight, bias, eps=eps).relu_()
        # Under autocast the convolution, and so its gradient, is in half precision.
        where = {"stride": conv.stride, "padding": conv.padding}
        dk = conv2d_weight(A.to(grad.dtype), kernel.shape, grad, **where)
        dA = conv2d_input(A.shape, kernel.to(grad.dtype), grad, **where).to(A.dtype)
        dA *= A > 0  # through ReLU
        del A
        dX, dw, db = torch.ops.aten.native_batch_norm_backward(
            dA, X, weight, mean, var, mean, rstd, ctx.training, eps, [True] * 3
        )
        ds = None if conv.bias is None else grad.sum((0, 2, 3))
        parts = dX.split([part.shape[1] for part in features], dim=1)
        return None, None, dw, db, dk.to(kernel.dtype), ds, *parts
