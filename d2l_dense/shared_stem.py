"""The stem as one autograd function that never holds all that its convolution makes.

Batch normalisation with a positive weight keeps the order of a channel's values. So
the maximum of what it makes of them is what it makes of their maximum: pooling may
come first, and leaves a quarter of the values to normalise. Where the weight is
negative, the kernel is turned round, and their minimum is a maximum.

Only the maxima have a gradient. They are kept, and the sums that go back through BN's
mean and deviation are taken over them. The convolution is computed once more in the
backward pass, for a part of the batch at a time, and each part goes back at once.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from d2l_dense.batch_norm import (
    Line,
    Moments,
    of_batch,
    per_channel,
    relu_,
    relu_back,
    statistics,
)
from d2l_dense.checks import autocasts
from d2l_dense.convolutions import add, convolve, convolve_back, in_type, output_shape
from d2l_dense.norm_gradients import NormGradients
from d2l_dense.parts import empty_like, parts
from d2l_dense.pools import pooled
from d2l_dense.shared_memory import check_once, without_autocast


@torch.compiler.disable  # it cannot trace the function below
def stem(
    X: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, pool: nn.MaxPool2d
) -> Tensor:
    """Compute a convolution, BN, maximum pooling and ReLU in little memory.

    Outputs, gradients and running statistics are those of the plain layers. Where the
    weight of BN is zero, all values of a window are its maximum: its gradient follows
    another of them than the plain layers' does.

    Shape: (N, in_channels, H, W) -> (N, num_channels, H/4, W/4)

    Raises:
        ValueError: in training, if there is one value a channel.
        RuntimeError: in the backward pass, if a second derivative is asked for.

    Chapter: "How would you change the framework?".
    """
    if X.dtype == torch.float32 and autocasts(X):
        X = X.to(torch.get_autocast_dtype(X.device.type))
    tensors = conv.weight, conv.bias, norm.weight, norm.bias
    with without_autocast(X):  # its types are X's
        return _Stem.apply(X, conv, norm, pool, *tensors)


class _Stem(torch.autograd.Function):
    """X, convolution, BN, pooling, their weights and biases -> Y."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        X: Tensor,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d,
        pool: nn.MaxPool2d,
        *tensors: Tensor | None,
    ) -> Tensor:
        kernel, bias, weight, shift = tensors
        signs = _signs(weight)
        turned = in_type(X.dtype, *_turned(signs, kernel, bias))
        n, _, h, w = shape = output_shape(conv, X)
        ctx.layers, ctx.shape = (conv, pool), shape
        ctx.of_batch = of_batch(norm, n * h * w)
        moments, maxima = Moments(ctx.of_batch), None
        for part in parts(X, shape):
            Y = convolve(conv, X[part], *turned)
            moments.add(Y)
            Y = pool(Y)
            if maxima is None:
                maxima = empty_like(Y, (n, *Y.shape[1:]))
            maxima[part] = Y
        known = moments.of_all(maxima)
        known[0] *= signs
        mean, rstd, slope = statistics(norm, known, n * h * w)
        mean, slope = mean * signs, slope * signs
        ctx.save_for_backward(X, maxima, mean, rstd, slope, *tensors)
        line = Line(maxima, mean, slope, shift.to(mean))
        return relu_(line.of(maxima, torch.empty_like(maxima)))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        check_once()
        X, maxima, mean, rstd, slope, kernel, bias, weight, shift = ctx.saved_tensors
        signs, weight, shift = _signs(weight), weight.to(mean), shift.to(mean)
        norm, scale = Line(maxima, mean, slope, shift), per_channel(slope, maxima)
        of_norm = NormGradients(maxima, mean, rstd, weight, shift, None)
        gradient = torch.empty_like(maxima)
        for part in parts(maxima):
            g, x = gradient[part], maxima[part]
            relu_back(grad[part], norm.of(x, g), g)
            of_norm.add(g, x)
            g.mul_(scale)
        of_weight, of_shift = of_norm.of_all(None, None)
        line = None
        if ctx.of_batch:
            n, _, h, w = ctx.shape
            sums = rstd * of_weight, of_shift
            line = Line(maxima, mean, *(-slope / (n * h * w) * s for s in sums))
        needed = [ctx.needs_input_grad[i] for i in (0, 4, 5)]
        turned = in_type(X.dtype, *_turned(signs, kernel, bias))
        with without_autocast(X):
            of_X, *of_conv = _to_images(ctx, X, turned, gradient, line, needed)
        of_conv = _turned(signs, *of_conv)
        return of_X, None, None, None, *of_conv, of_weight * signs, of_shift


def _to_images(
    ctx: FunctionCtx,
    X: Tensor,
    turned: list[Tensor | None],
    gradient: Tensor,
    line: Line | None,
    needed: list[bool],
) -> list[Tensor | None]:
    """Gradients of the images and of the convolution, as far as they are needed.

    Args:
        gradient: of the maxima, but for what goes through BN's mean and deviation.
        line: what does, of each value that the convolution makes.
    """
    conv, pool = ctx.layers
    of_X = torch.empty_like(X) if needed[0] else None
    of_conv: list[Tensor | None] = [None, None]
    for part in parts(X, ctx.shape) if any(needed) else ():
        Y = convolve(conv, X[part], *turned)
        g = pooled(pool, Y)[1](gradient[part])
        if line is not None:
            g.add_(line.of(Y, Y))
        new, *others = convolve_back(conv, turned[0], g, X[part], needed)
        del Y, g  # before the next part needs the room
        of_conv = add(of_conv, others)
        if of_X is not None:
            of_X[part] = new
    return [of_X, *of_conv]


def _signs(weight: Tensor) -> Tensor:
    """-1 for each channel whose order BN turns round, and 1 for the others."""
    return torch.where(weight < 0, -1.0, 1.0)


def _turned(signs: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    """A kernel and a bias with those signs, or their gradients."""

    def of_one(x: Tensor) -> Tensor:
        return x * signs.view(-1, *[1] * (x.ndim - 1))

    return [x if x is None else of_one(x) for x in tensors]
