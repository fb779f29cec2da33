"""Train in less memory: keep the features once, and compute again what is cheap.

For each dense layer autograd keeps all that the layer reads, twice: concatenated, and
normalized. The strategies here keep only the features. In the backward pass,
"checkpoint" runs the layer again up to its last convolution, "shared" no convolution.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

MEMORY = ("plain", "checkpoint", "shared")


def concatenate(features: Sequence[Tensor]) -> Tensor:
    """Join features along the channels; one alone is not copied."""
    return features[0] if len(features) == 1 else torch.cat(tuple(features), dim=1)


@torch.compiler.disable  # it cannot trace the change of the statistics
def recompute(module: nn.Module, *features: Tensor) -> Tensor:
    """Apply a module to concatenated features, and run it again to go backward.

    Only the features, (N, C_i, H, W) each, are kept. Running statistics of batch
    normalization move once: PyTorch's checkpoint alone moves them in both passes.

    Source: Chen et al. (2016). Chapter: "Checkpointing: change the call".
    """

    def run(*features: Tensor) -> Tensor:
        return module(concatenate(features))

    contexts = nullcontext(), _FrozenStatistics(module)  # of the two passes
    return checkpoint(run, *features, use_reentrant=False, context_fn=lambda: contexts)


class _FrozenStatistics:
    """A context in which batch normalization leaves its running statistics alone."""

    def __init__(self, module: nn.Module) -> None:
        self.norms = [m for m in module.modules() if hasattr(m, "num_batches_tracked")]

    def __enter__(self) -> None:
        self.before = [(n.momentum, n.num_batches_tracked) for n in self.norms]
        for norm in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, torch.tensor(0)  # weight 0

    def __exit__(self, *_) -> None:
        for norm, before in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = before


@torch.compiler.disable  # it cannot trace the function below
def shared_layer(layer: nn.Sequential, *features: Tensor) -> Tensor:
    """Apply a dense layer; keep the features and the outputs of its convolutions.

    A layer of another form, or with hooks, is checkpointed instead.

    Source: Pleiss et al. (2017). Chapter: "One function: change the layer".
    """
    if not _is_dense_layer(layer):
        return recompute(layer, *features)
    for norm, conv in zip(layer[::3], layer[2::3], strict=True):
        parameters = norm.weight, norm.bias, conv.weight, conv.bias
        features = (_PreActivation.apply(norm, conv, *parameters, *features),)
    return features[0]


def _is_dense_layer(layer: nn.Module) -> bool:
    """Whether it is BN, ReLU and convolution, once or twice, and has no hooks."""
    unit = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    if type(layer) is not nn.Sequential or [*map(type, layer)] not in (unit, 2 * unit):
        return False
    norms, convs, modules = layer[::3], layer[2::3], [layer, *layer]
    own = [(name, value) for m in modules for name, value in vars(m).items()]
    hooked = any(value for name, value in own if "hooks" in name or name == "forward")
    usual = all(m.track_running_stats and m.momentum for m in norms)
    usual &= all(len(m.state_dict()) == 5 for m in norms)  # no tensor is missing
    usual &= all((m.padding_mode, type(m.padding)) == ("zeros", tuple) for m in convs)
    return usual and not hooked


class _PreActivation(torch.autograd.Function):
    """Concatenation, batch normalization, ReLU and convolution as one function.

    It keeps the features, the parameters, and of each channel the mean and the
    reciprocal standard deviation. The rest is computed again, but no convolution.
    """

    @staticmethod
    def forward(ctx, norm, conv, gamma, beta, kernel, bias, *features):
        X = concatenate(features)  # (N, C, H, W)
        if X.shape[1] != norm.num_features or norm.training and X.numel() == X.shape[1]:
            norm(X)  # raises PyTorch's error, which the kernel below does not
        running = norm.running_mean, norm.running_var
        options = norm.training, norm.momentum, norm.eps
        Y, mean, rstd = torch.native_batch_norm(X, gamma, beta, *running, *options)
        if norm.training:
            norm.num_batches_tracked.add_(1)
        else:
            mean, rstd = running[0].clone(), (running[1] + norm.eps).rsqrt()
        ctx.norm, ctx.conv, ctx.training = norm, conv, norm.training
        ctx.save_for_backward(gamma, beta, kernel, mean, rstd, *features)
        return conv(Y.relu_())

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():
            raise RuntimeError("memory='shared' has no second derivative; 'plain' has")
        gamma, beta, kernel, mean, rstd, *features = ctx.saved_tensors
        conv, eps = ctx.conv, ctx.norm.eps
        X, var = concatenate(features), rstd.pow(-2) - eps  # rstd: 1 / sqrt(var + eps)
        # Under autocast the convolution, and so its gradient, is in half precision.
        A = F.batch_norm(X, mean, var, gamma, beta, eps=eps).relu_().to(grad.dtype)
        form = conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups
        wanted = [True, True, conv.bias is not None]
        dA, dkernel, dbias = torch.ops.aten.convolution_backward(
            grad, A, kernel.to(A.dtype), [len(kernel)], *form, wanted
        )
        dA = torch.ops.aten.threshold_backward(dA, A, 0, grad_input=dA).to(X.dtype)
        del A
        dX, dgamma, dbeta = torch.ops.aten.native_batch_norm_backward(
            dA, X, gamma, mean, var, mean, rstd, ctx.training, eps, [True] * 3
        )
        parts = dX.split([part.shape[1] for part in features], dim=1)
        return None, None, dgamma, dbeta, dkernel, dbias, *parts
