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
    per_channel,
    single,
    statistics,
)
from d2l_dense.checks import autocasts
from d2l_dense.convolutions import convolve
from d2l_dense.parts import empty_like, parts
from d2l_dense.readers import Reader, back_to_source
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
    return read(X, layers=[of_layer(layer) for layer in layers])


@torch.compiler.disable  # it cannot trace the function below
def read(
    X: Tensor,
    source: nn.Conv2d | None = None,
    layers: list[list[Reader]] | None = None,
    last: Reader | None = None,
) -> Tensor:
    """What a last reader makes of the features, or, without one, all features.

    The features are X, or what `source` makes of it, which is then computed again
    in the backward pass; and what each layer adds to them.
    """
    convs = [] if source is None else [source.weight, source.bias]
    every = [r for layer in layers or [] for r in layer] + ([last] if last else [])
    tensors = [*convs, *(tensor for reader in every for tensor in reader.tensors())]
    kind = _autocast_kind(X)
    if source is not None and X.dtype == torch.float32:
        X = X.to(torch.get_autocast_dtype(kind)) if autocasts(X) else X
    with torch.autocast(kind, enabled=False):  # its types are X's
        grad = torch.is_grad_enabled()
        return _Read.apply(X, source, layers or [], last, grad, *tensors)


def _autocast_kind(X: Tensor) -> str:
    kind = X.device.type
    return kind if torch.amp.is_autocast_available(kind) else "cpu"


class _Read(torch.autograd.Function):
    """X, convolution, layers, last reader, whether to keep, tensors -> Y."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        X: Tensor,
        source: nn.Conv2d | None,
        layers: list[list[Reader]],
        last: Reader | None,
        keep: bool,
        *tensors: Tensor | None,
    ) -> Tensor:
        features = X if source is None else convolve(source, X, *tensors[:2])
        n, c, h, w = features.shape
        readers = [r for layer in layers for r in layer] + ([last] if last else [])
        of_batch = any(reader.of_batch for reader in readers)
        if of_batch and n * h * w < 2:
            raise ValueError(
                f"batch normalisation found {n * h * w} values per channel, expected "
                "two or more: train on a larger batch or larger images"
            )
        width = c + sum(layer[-1].conv.out_channels for layer in layers)
        buffer = empty_like(features, (n, width, h, w)) if layers else features
        moments = Moments(of_batch)
        for part in parts(features):
            if layers:
                buffer[part, :c] = features[part]
            moments.add(features[part])
        table = X.new_zeros(2, width, dtype=single(X.dtype))  # of each channel
        table[:, :c] = moments.of_all(features)
        del features
        kept: list[Tensor | None] = []
        for layer in layers:
            new = slice(c, c + layer[-1].conv.out_channels)
            x, known = buffer[:, :c], table[:, :c]
            for reader in layer:
                found = statistics(reader.norm, known, n * h * w)
                if keep:
                    inner = None if reader is layer[0] else x
                    kept += [inner, *found, *reader.tensors()]
                out = buffer[:, new] if reader is layer[-1] else None
                x, known = reader.read(x, found, out, of_batch)
            table[:, new], c = known, new.stop
        if last:
            found = statistics(last.norm, table, n * h * w)
            kept += [None, *found, *last.tensors()]
        layers = [*layers, [last]] if last else layers
        ctx.layers = [[(r, r.of_batch) for r in layer] for layer in layers]
        ctx.source, ctx.last = source, last
        of_source = (None, None) if source is None else tensors[:2]
        start = buffer if source is None else X
        ctx.save_for_backward(start, table[0], *of_source, *kept)
        return last.read(buffer, found)[0] if last else buffer

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "memory='shared' has no second derivative: for create_graph=True "
                "build the network with memory='plain'"
            )
        X, means, kernel, bias, *kept = ctx.saved_tensors
        buffer = X
        if ctx.source is not None:
            with torch.autocast(_autocast_kind(X), enabled=False):
                buffer = convolve(ctx.source, X, kernel, bias)
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
            for reader, of_batch in reversed(layer):
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
                if of_batch:
                    slope.addcmul_(scale * rstd, found[0], value=-1 / count)
                    offset.addcmul_(scale, found[1], value=-1 / count)
                if first:
                    total = into
                else:
                    line = Line(x, mean, slope, offset)
                    g = corrected(into, x, line, per_channel(scale, x))
                grads += reversed(found)
                del kept[-8:], needed[-4:]
        g, g_X, of_source = whole(slice(0, end)), None, []
        if ctx.source is not None:
            g_X, of_source = back_to_source(ctx.source, kernel, g, X, buffer, needed)
        elif needed[0]:
            alone = end == X.shape[1]  # without layers, total is all ours
            g_X = total if alone else empty_like(X, total.shape)
            for part in parts(g_X):
                g_X[part] = g(part)
        return g_X, None, None, None, None, *of_source, *reversed(grads)
