"""Functions of tensors: what layers and blocks compute, and their gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from d2l_dense.try_it.compare import compare, judge, kind


def check_block(reader: Callable) -> None:
    """(X, layers) -> X with the layers' outputs behind it. Chapter: densenet."""
    append, layers = _block(_append), [partial(_layer, i) for i in (1, 2)]
    mistakes = {
        "You add; concatenate instead.": _block(torch.add),
        "You join images; channels are dim=1.": _block(lambda X, Y: torch.cat((X, Y))),
        "The output replaces the input; join the two.": _block(lambda X, Y: Y),
        "New channels go behind the old.": _block(lambda X, Y: _append(Y, X)),
        "The input's 3 are missing.": lambda X, f: append(X, f)[:, X.shape[1] :],
        "One layer ran: is return in the loop?": lambda X, f: append(X, f[:1]),
        "Layer 2 has to read layer 1 too.": lambda X, f: _append(
            append(X, f[:1]), f[1](X)
        ),
        "Layer 2 has to read the input too.": lambda X, f: _append(
            append(X, f[:1]), f[1](f[0](X))
        ),
    }
    # Shapes are equal in the second case, where a sum raises no error.
    cases = [
        (torch.arange(2.0 * c * 16).sin().reshape(2, c, 4, 4), layers) for c in (3, 10)
    ]
    compare(reader, append, cases, mistakes)


def check_transition(reader: Callable) -> None:
    """(channels in, out) -> nn.Sequential that pools first. Chapter: densenet."""
    R, A, M = nn.ReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2)
    mistakes = {
        "Equal outputs, but a convolution of all pixels.": _steps("B", R, "C", A),
        "Pooling may not pass ReLU, which is no sum.": _steps("B", A, R, "C"),
        "BN comes before ReLU.": _steps(R, "B", A, "C"),
        "BN and ReLU come before the convolution.": _steps("C", "B", R, A),
        "A maximum and a convolution may not swap.": _steps("B", R, M, "C"),
        "Nothing halves height and width.": _steps("B", R, "C"),
    }
    read = judge(reader, lambda Y: _describe(Y) if isinstance(Y, nn.Module) else Y)
    compare(read, _steps("B", R, A, "C"), [(23, 10)], mistakes)


def check_max_gradient(reader: Callable) -> None:
    """(2x2 window, gradient of its maximum) -> its gradient. Chapter: pooling."""

    def right(X: Tensor, g: float) -> Tensor:
        return g * (X.max() == X)

    first = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    mistakes = {
        "That is the average's.": lambda X, g: torch.full_like(X, g / 4),
        "One pixel receives it, not all.": lambda X, g: torch.full_like(X, g),
        "Not always the first pixel: the largest.": lambda X, g: g * first,
        "Multiply by the gradient from above.": lambda X, g: right(X, 1.0),
        "The pixel's value has no part in it.": lambda X, g: right(X, g) * X,
    }
    windows = torch.tensor([[[1.0, 4.0], [3.0, 2.0]], [[-3.0, -2.0], [-0.5, -4.0]]])
    compare(reader, right, [(X, 2.0) for X in windows], mistakes)


def check_counterexample(reader: Callable) -> None:
    """() -> (1, 2, 2, 2): maximum and sum do not swap. Chapter: pooling."""

    def tell(X: Any) -> Any:
        if not isinstance(X, Tensor):
            return f"a {kind(X)}, no Tensor"
        if X.shape != (1, 2, 2, 2):
            return X
        a, b = F.max_pool2d(X.sum(1), 2).item(), F.max_pool2d(X, 2).sum().item()
        same = f"{a:g} in both orders: both channels are largest at the same pixel"
        if not X.isfinite().all():
            return "values that are not finite"
        return "shape (1, 2, 2, 2), two results" if a != b else same

    right = "shape (1, 2, 2, 2), two results"
    compare(judge(reader, tell), lambda: right, [()], {})


def check_recomputed(reader: Callable) -> None:
    """(x, a, g) -> gradients of x and a through relu(x * a). Chapter: memory."""

    def right(x: Tensor, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        g = g * (x * a > 0)
        return g * a, (g * x).sum(dim=0)

    def masked(x: Tensor, a: Tensor, g: Tensor) -> Tensor:
        return g * (x * a > 0) * x

    def unmasked(x: Tensor, a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        return g * a, (g * x).sum(dim=0)

    mistakes = {
        "ReLU passes nothing where x * a < 0.": unmasked,
        "The mask is x * a > 0.": lambda x, a, g: unmasked(x, a, g * (x > 0)),
        "Sum a's over the rows.": lambda x, a, g: (right(x, a, g)[0], masked(x, a, g)),
        "First x's, then a's.": lambda x, a, g: right(x, a, g)[::-1],
    }
    x, g = torch.arange(1.0, 31.0).sin().reshape(2, 5, 3)
    compare(reader, right, [(x, torch.tensor([1.0, -2.0, 3.0]), g)], mistakes)


def _append(X: Tensor, Y: Tensor) -> Tensor:
    return torch.cat((X, Y), dim=1)


def _block(join: Callable) -> Callable:
    """A dense block's forward pass, with another way to join."""

    def forward(X: Tensor, layers: list) -> Tensor:
        for layer in layers:
            X = join(X, layer(X))
        return X

    return forward


def _layer(number: int, X: Tensor) -> Tensor:
    """Stands for a layer of 10 channels; reads any number, so mistakes run on."""
    new = torch.arange(1, 11).reshape(1, 10, 1, 1) * number
    return X.mean(dim=1, keepdim=True) + new


def _steps(*order: Any) -> Callable:
    """How a transition of these parts is described; "B" is BN, "C" the convolution."""

    def build(c: int, out: int) -> str:
        width, parts = c, []
        for part in order:
            if part == "C":
                part, width = nn.Conv2d(width, out, 1), out
            elif part == "B":
                part = nn.BatchNorm2d(width)
            parts.append(part)
        return _describe(nn.Sequential(*parts))

    return build


def _describe(net: nn.Module) -> str:
    """The layers of a transition in the order they run, and what leaves each."""
    steps: list[str] = []

    def note(layer: nn.Module, _: Any, Y: Tensor) -> None:
        size = getattr(layer, "kernel_size", "")
        size = f" {size if isinstance(size, int) else size[0]}" if size else ""
        steps.append(f"{type(layer).__name__}{size} -> {tuple(Y.shape[1:])}")

    for layer in net.modules():
        if not list(layer.children()):
            layer.register_forward_hook(note)
    net(torch.randn(2, 23, 8, 8))
    return ", ".join(steps)
