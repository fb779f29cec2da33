"""The dense block as one autograd function over one shared buffer.

Written plainly, each layer keeps its own copy of all that came before it,
concatenated and normalised: memory grows with the square of the depth. Here
every layer writes into one buffer. Kept are the buffer, the outputs of the
bottlenecks, and a mean and a deviation for each channel; batch normalisation and
ReLU are computed again in the backward pass, and no convolution of a block is.

The batch's mean and variance of a feature are the same for every layer that reads
it, so they are computed once. So is the part of its gradient that goes through
them: it is a + b (x - mean) for each channel, and a and b add up over the readers.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from d2l_dense.batch_norm import (
    Line,
    Moments,
    corrected,
    of_batch,
    per_channel,
    single,
    statistics,
)
from d2l_dense.parts import empty_like, parts
from d2l_dense.readers import Reader
from d2l_dense.take_apart import of_layer


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
    return read(X, [of_layer(layer) for layer in layers])


def without_autocast(X: Tensor) -> torch.autocast:
    """A context in which types are what they are."""
    kind = X.device.type
    available = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind if available else "cpu", enabled=False)


def check_once() -> None:
    """Refuse a second derivative, in a backward pass."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "memory='shared' has no second derivative: for create_graph=True "
            "build the network with memory='plain'"
        )


@torch.compiler.disable  # it cannot trace the function below
def read(X: Tensor, layers: list[list[Reader]], last: Reader | None = None) -> Tensor:
    """What a last reader makes of the features, or, without one, all features.

    The features are X and what each layer adds to it.
    """
    every = [reader for layer in layers for reader in layer] + ([last] if last else [])
    tensors = (tensor for reader in every for tensor in reader.tensors())
    with without_autocast(X):
        return _Read.apply(X, layers, last, torch.is_grad_enabled(), *tensors)


class _Read(torch.autograd.Function):
    """X, layers, last reader, whether to keep, tensors -> Y."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        X: Tensor,
        layers: list[list[Reader]],
        last: Reader | None,
        keep: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        n, c, h, w = X.shape
        count, stages = n * h * w, [*layers, [last]] if last else layers
        ctx.layers = [[(r, of_batch(r.norm, count)) for r in layer] for layer in stages]
        measure = any(by_batch for layer in ctx.layers for _, by_batch in layer)
        width = c + sum(layer[-1].conv.out_channels for layer in layers)
        buffer = empty_like(X, (n, width, h, w)) if layers else X
        moments = Moments(measure)
        for part in parts(X):
            if layers:
                buffer[part, :c] = X[part]
            moments.add(X[part])
        table = X.new_zeros(2, width, dtype=single(X.dtype))  # of each channel
        table[:, :c] = moments.of_all(X)
        kept: list[Tensor | None] = []
        for layer in layers:
            new = slice(c, c + layer[-1].conv.out_channels)
            x, known = buffer[:, :c], table[:, :c]
            for reader in layer:
                found = statistics(reader.norm, known, count)
                if keep:
                    inner = None if reader is layer[0] else x
                    kept += [inner, *found, *reader.tensors()]
                out = buffer[:, new] if reader is layer[-1] else None
                x, known = reader.read(x, found, out, measure)
            table[:, new], c = known, new.stop
        if last:
            found = statistics(last.norm, table, count)
            kept += [None, *found, *last.tensors()]
        ctx.last = last
        ctx.save_for_backward(buffer, table[0], *kept)
        return last.read(buffer, found)[0] if last else buffer

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        check_once()
        buffer, means, *kept = ctx.saved_tensors
        count = max(1, buffer.numel() // buffer.shape[1])
        needed, grads = list(ctx.needs_input_grad), []  # grads: last to first
        # The features' gradient is total + offset + slope * (x - mean). Before a reader
        # has made a total of our own, it is the gradient that came, or none.
        total, end = None if ctx.last else grad, buffer.shape[1]
        lines = means.new_zeros(2, len(means))  # slope and offset of each channel

        def whole(channels: slice) -> Callable[[slice], Tensor]:
            x, known = buffer[:, channels], total[:, channels]
            return corrected(known, x, Line(x, means[channels], *lines[:, channels]))

        for layer in reversed(ctx.layers):
            if layer[-1][0] is ctx.last:
                g = grad.__getitem__
            else:
                new = slice(end - layer[-1][0].conv.out_channels, end)
                g, end = whole(new), new.start
            for reader, by_batch in reversed(layer):
                x, mean, rstd, scale, *tensors = kept[-8:]
                first, known, into = x is None, None, None
                if first:
                    x = buffer[:, :end]
                    known = None if total is None else total[:, :end]
                    into = None if total is grad else known
                if into is None:
                    into = empty_like(x, x.shape)
                norm = mean, rstd, scale
                found = reader.read_back(
                    g, x, norm, tensors, needed[-4:], known, into, first
                )
                slope, offset = (
                    lines[:, :end] if first else mean.new_zeros(2, len(mean))
                )
                if by_batch:
                    slope.addcmul_(scale * rstd, found[0], value=-1 / count)
                    offset.addcmul_(scale, found[1], value=-1 / count)
                if first:
                    total = into
                else:
                    line = Line(x, mean, slope, offset)
                    g = corrected(into, x, line, per_channel(scale, x))
                grads += reversed(found)
                del kept[-8:], needed[-4:]
        g, g_X = whole(slice(0, end)), None
        if needed[0]:
            alone = end == buffer.shape[1]  # without layers, total is all ours
            g_X = total if alone else empty_like(buffer, total.shape)
            for part in parts(g_X):
                g_X[part] = g(part)
        return g_X, None, None, None, *reversed(grads)
