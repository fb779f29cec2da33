"""The dense block as one autograd function over one shared buffer.

Written plainly, each layer keeps its own copy of all that came before it,
concatenated and normalised: memory grows with the square of the depth. Here
every layer writes into one buffer. Kept are the buffer, the outputs of the
bottlenecks, and a mean and a deviation for each channel; batch normalisation and
ReLU are computed again in the backward pass, and no convolution is.

The batch's mean and variance of a feature are the same for every layer that reads
it, so they are computed once. So is the part of its gradient that goes through
them: it is a + b (x - mean) for each channel, and a and b add up over the readers.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from d2l_dense.batch_norm import (
    AXES,
    moments,
    normalise,
    normalise_by_batch,
    per_channel,
    scratch,
    single,
    statistics,
)
from d2l_dense.layer_steps import Step, take_apart

_LAYOUTS = torch.contiguous_format, torch.channels_last
_aten = torch.ops.aten


@torch.compiler.disable  # it cannot trace the function below
def dense_block(X: Tensor, layers: Iterable[nn.Sequential]) -> Tensor:
    """Compute a dense block whose backward pass needs little memory.

    Outputs, gradients and running statistics are those of the plain block.

    Shape: (N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)

    Args:
        layers: of `conv_block`, with or without a bottleneck, and without hooks.

    Raises:
        ValueError: if a layer is another one; it names what it found.
        RuntimeError: in the backward pass, if a second derivative is asked for.

    Source: Pleiss et al. (2017). Chapter: "How would you change the framework?".
    """
    steps = [take_apart(layer) for layer in layers]
    tensors = [tensor for layer in steps for step in layer for tensor in step.tensors()]
    kind = X.device.type if torch.amp.is_autocast_available(X.device.type) else "cpu"
    with torch.autocast(kind, enabled=False):  # its types are X's
        return _DenseBlock.apply(X, steps, torch.is_grad_enabled(), *tensors)


class _DenseBlock(torch.autograd.Function):
    """X, the steps of each layer, whether to keep, four tensors a step -> buffer."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        X: Tensor,
        layers: list[list[Step]],
        keep: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        n, c, h, w = X.shape
        k = layers[0][-1].conv.out_channels
        last = X.is_contiguous(memory_format=torch.channels_last)
        layout = _LAYOUTS[last and not X.is_contiguous()]
        shape = n, c + k * len(layers), h, w
        options = {"dtype": X.dtype, "device": X.device, "memory_format": layout}
        buffer = torch.empty(shape, **options)
        table = X.new_zeros(2, shape[1], dtype=single(X.dtype))
        of_batch = any(step.of_batch for layer in layers for step in layer)
        if of_batch and n * h * w == 1:
            raise ValueError(
                "batch normalisation found one value per channel, expected more: "
                "train on a larger batch or larger images"
            )
        ctx.widest = max(s.norm.num_features for layer in layers for s in layer)
        room = scratch(buffer, ctx.widest)
        kept: list[Tensor | None] = []
        Y, new = X, slice(0, c)
        for layer in [*layers, []]:
            buffer[:, new] = Y
            if of_batch:
                table[:, new] = moments(Y)
            for step in layer:
                first = step is layer[0]
                x = buffer[:, :c] if first else Y
                norm, Z = step.norm, room(x.shape[1])
                if first or not step.of_batch:
                    mean, rstd = statistics(norm, table[:, :c], n * h * w)
                    normalise(x, mean, rstd, norm.weight, norm.bias, Z)
                else:
                    mean, rstd = normalise_by_batch(x, norm, Z)
                if keep:
                    kept += [None if first else x, mean, rstd, *step.tensors()]
                Y = step.convolve(Z)
            new, c = slice(c, c + k), c + k
        ctx.layers = [[(step, step.of_batch) for step in layer] for layer in layers]
        ctx.save_for_backward(buffer, table[0], *kept)
        return buffer

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "memory='shared' has no second derivative: for create_graph=True "
                "build the network with memory='plain'"
            )
        buffer, means, *kept = ctx.saved_tensors
        count = grad.numel() // grad.shape[1]
        needed, grads = list(ctx.needs_input_grad), []  # grads: last to first
        total = grad  # the buffer's gradient is total - offset - slope * (x - mean)
        offset, slope = torch.zeros_like(means), torch.zeros_like(means)
        room = scratch(buffer, ctx.widest)

        def finish(part: slice) -> Tensor:
            a = slope[part] * means[part] - offset[part]
            a, b = per_channel(a, buffer), per_channel(-slope[part], buffer)
            return torch.addcmul(a, buffer[:, part], b).add_(total[:, part])

        end = buffer.shape[1]
        for layer in reversed(ctx.layers):
            c = end - layer[-1][0].conv.out_channels
            g = finish(slice(c, end))
            for step, of_batch in reversed(layer):
                inner, mean, rstd, weight, bias, kernel, conv_bias = kept[-7:]
                need_weight, need_bias, need_kernel, need_conv_bias = needed[-4:]
                del kept[-7:], needed[-4:]
                weight = weight.to(mean)
                x = buffer[:, :c] if inner is None else inner
                Z = normalise(x, mean, rstd, weight, bias, room(x.shape[1]))
                conv = step.conv
                g, g_kernel, g_conv_bias = _aten.convolution_backward(
                    g, Z, kernel.to(Z.dtype), [len(kernel)], conv.stride,
                    conv.padding, conv.dilation, False, [0, 0], conv.groups,
                    [True, need_kernel, need_conv_bias and conv_bias is not None],
                )  # fmt: skip
                _aten.threshold_backward.grad_input(g, Z, 0, grad_input=g)
                if inner is not None:
                    g, g_weight, g_bias = _aten.native_batch_norm_backward(
                        g, x, weight, mean, rstd**-2, mean, rstd, of_batch, 0.0,
                        [True, need_weight, need_bias],
                    )  # fmt: skip
                else:
                    g_bias = g.sum(AXES, dtype=mean.dtype)
                    product = torch.mul(g, x, out=Z).sum(AXES, dtype=mean.dtype)
                    g_weight = (product - mean * g_bias) * rstd
                    scale = weight * rstd
                    if of_batch:
                        offset[:c] += scale * g_bias / count
                        slope[:c] += scale * rstd * g_weight / count
                    scale, known = per_channel(scale, g), total[:, :c]
                    into = g if total is grad else known  # grad is not ours to change
                    total = torch.addcmul(known, g, scale, out=into)
                grads += [g_conv_bias, g_kernel, g_bias, g_weight]
            end = c
            del g  # as large as what `finish` is about to make
        return finish(slice(0, end)), None, None, *reversed(grads)
