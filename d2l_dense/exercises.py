"""The "Try it" exercises: each check takes a reader's function and prints one line:

not done yet; or what was found, what was expected and the probable mistake; or right.
"""

import copy
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial, reduce
from itertools import compress
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close


def check_block(reader: Callable) -> None:
    """(X, layers) -> X with the layers' outputs behind it. Chapter: densenet."""

    def block(join):
        return lambda X, f: reduce(lambda X, layer: join(X, layer(X)), f, X)

    cat = partial(torch.cat, dim=1)
    right = block(lambda X, Y: cat((X, Y)))
    mistakes = {
        "You add; concatenate instead.": block(torch.add),
        "You join images; channels are dim=1.": block(lambda X, Y: torch.cat((X, Y))),
        "The output replaces the input; join the two.": block(lambda X, Y: Y),
        "New channels go behind the old.": block(lambda X, Y: cat((Y, X))),
        "The input's 3 are missing.": lambda X, f: right(X, f)[:, X.shape[1] :],
        "One layer ran: is return in the loop?": lambda X, f: right(X, f[:1]),
        "Layer 2 has to read layer 1 too.": lambda X, f: cat((X, f[0](X), f[1](X))),
        "Layer 2 reads the input too.": lambda X, f: cat((X, f[0](X), f[1](f[0](X)))),
    }
    layers = [lambda X, i=i: X.mean(1, True).repeat(1, 10, 1, 1) + i for i in (1, 2)]
    # Shapes are equal in the second case, where a sum raises no error.
    inputs = [torch.arange(2.0 * c * 16).sin().reshape(2, c, 4, 4) for c in (3, 10)]
    _compare(reader, right, [(X, layers) for X in inputs], mistakes)


@torch.random.fork_rng(devices=[])
def check_transition(reader: Callable) -> None:
    """(channels in, out) -> nn.Sequential that pools first. Chapter: densenet."""

    def describe(net):
        if not isinstance(net, nn.Module):
            return net
        X, steps = torch.randn(2, 23, 8, 8), []
        for layer in copy.deepcopy(net).modules():  # the reader's stay as they are
            if not list(layer.children()):
                X, size = layer(X), np.ravel(getattr(layer, "kernel_size", []))[:1]
                steps.append(" ".join([type(layer).__name__, *map(str, size)]))
        return f"{', '.join(steps)} -> {tuple(X.shape[1:])}"

    B, R, A, M = nn.BatchNorm2d(23), nn.ReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2)
    C, B10, net = nn.Conv2d(23, 10, 1), nn.BatchNorm2d(10), nn.Sequential
    mistakes = {
        "Equal outputs, but a convolution of all pixels.": lambda *_: net(B, R, C, A),
        "Pooling may not pass ReLU, which is no sum.": lambda *_: net(B, A, R, C),
        "BN comes before ReLU.": lambda *_: net(R, B, A, C),
        "BN and ReLU come before the convolution.": lambda *_: net(C, B10, R, A),
        "A maximum and a convolution may not swap.": lambda *_: net(B, R, M, C),
        "Nothing halves height and width.": lambda *_: net(B, R, C),
    }
    _compare(reader, lambda *_: net(B, R, A, C), [(23, 10)], mistakes, describe)


def check_max_gradient(reader: Callable) -> None:
    """(2x2 window, gradient of its maximum) -> its gradient. Chapter: pooling."""
    mistakes = {
        "That is the average's.": lambda X, g: torch.full_like(X, g / 4),
        "One pixel receives it, not all.": lambda X, g: torch.full_like(X, g),
        "Not always the first pixel: the largest.": lambda X, g: g * (X[0, 0] == X),
        "Multiply by the gradient from above.": lambda X, g: 1.0 * (X.max() == X),
        "The pixel's value has no part in it.": lambda X, g: g * X * (X.max() == X),
    }
    windows = torch.tensor([[[1.0, 4.0], [3.0, 2.0]], [[-3.0, -2.0], [-0.5, -4.0]]])
    cases = [(X, 2.0) for X in windows]
    _compare(reader, lambda X, g: g * (X.max() == X), cases, mistakes)


def check_counterexample(reader: Callable) -> None:
    """() -> (1, 2, 2, 2): maximum and sum do not swap. Chapter: pooling."""
    right = "a Tensor of shape (1, 2, 2, 2), with two results"

    def describe(X):
        if not isinstance(X, Tensor) or X.shape != (1, 2, 2, 2):
            return X
        a, b = F.max_pool2d(X.sum(1), 2).item(), F.max_pool2d(X, 2).sum().item()
        same = f"{a:g} in both orders: both channels are largest at the same pixel"
        return right if abs(a - b) > 0 else same

    _compare(reader, lambda: right, [()], {}, describe)


def check_recomputed(reader: Callable) -> None:
    """(x, a, g) -> gradients of x and a through relu(x * a). Chapter: memory."""

    def of_product(x, a, g):
        return g * a, (g * x).sum(dim=0)

    mistakes = {
        "ReLU passes nothing where x * a < 0.": of_product,
        "The mask is x * a > 0.": lambda x, a, g: of_product(x, a, g * (x > 0)),
        "Sum a's over the rows.": lambda x, a, g: [g * (x * a > 0) * t for t in (a, x)],
        "First x's, then a's.": lambda x, a, g: of_product(x, a, g * (x * a > 0))[::-1],
    }
    x, g = torch.arange(1.0, 31.0).sin().reshape(2, 5, 3)
    cases = [(x, torch.tensor([1.0, -2.0, 3.0]), g)]
    _compare(reader, lambda x, a, g: of_product(x, a, g * (x * a > 0)), cases, mistakes)


def check_weights(reader: Callable) -> None:
    """(C, L, k) -> weights of a block's convolutions. Chapter: parameters."""

    def right(C, L, k):
        return sum(9 * (C + i * k) * k for i in range(L))

    mistakes = {
        "Layer 2 reads k more than layer 1.": lambda C, L, k: 9 * L * C * k,
        "Layer 1 reads C, not C + k.": lambda C, L, k: right(C + k, L, k),
        "Every layer reads the input's C too.": lambda C, L, k: right(0, L, k),
        "A pair of channels has 9 weights.": lambda C, L, k: right(C, L, k) // 9,
        "No layer but the head reads all.": lambda C, L, k: 9 * k * L * (C + L * k),
    }
    _compare(reader, right, [(3, 2, 10), (64, 4, 32), (64, 1, 32)], mistakes)


def check_quotient(reader: Callable) -> None:
    """L -> weights, residual over dense, at equal width. Chapter: parameters."""
    mistakes = {
        "Close to it for large L, but not equal.": lambda L: 2 * L,
        "Upside down.": lambda L: (L - 1) / (2 * L * L),
        "Divide by (L - 1) / L, not multiply.": lambda L: 2 * (L - 1),
        "Divide by one half, that is, times 2.": lambda L: L * L / (L - 1) / 2,
        "The residual block has L layers.": lambda L: 2 * L / (L - 1),
    }
    _compare(reader, lambda L: 2 * L * L / (L - 1), [(4,), (2,), (32,)], mistakes)


def check_kept_bytes(reader: Callable) -> None:
    """(N, side, C, k) -> bytes that two dense layers keep. Chapter: memory."""
    mistakes = {
        "A float32 has 4 bytes.": lambda N, s, C, k: N * s**2 * (4 * C + 2 * k),
        "Pixels: side times side.": lambda N, s, C, k: 4 * N * s * (4 * C + 2 * k),
        "Two tensors a layer are kept.": lambda N, s, C, k: 4 * N * s**2 * (2 * C + k),
        "Layer 1 reads C.": lambda N, s, C, k: 4 * N * s**2 * (4 * C + 6 * k),
        "That is the features once.": lambda N, s, C, k: 4 * N * s**2 * (C + 2 * k),
        "Layer 2 reads k more.": lambda N, s, C, k: 4 * N * s**2 * 4 * C,
    }
    cases = [(2, 24, 64, 32), (128, 8, 3, 10)]
    _compare(reader, lambda N, s, C, k: 4 * N * s**2 * (4 * C + 2 * k), cases, mistakes)


def check_depth(reader: Callable) -> None:
    """Arch, with bottlenecks -> convolutions and linear layer. Chapter: variants."""
    mistakes = {
        "A layer has two convolutions.": lambda arch: sum(arch) + len(arch) + 1,
        "Transitions have one each.": lambda arch: 2 * sum(arch) + 2,
        "None after the last block.": lambda arch: 2 * sum(arch) + len(arch) + 2,
        "Stem or head is missing.": lambda arch: 2 * sum(arch) + len(arch),
        "Stem and head are missing.": lambda arch: 2 * sum(arch) + len(arch) - 1,
    }
    cases = [((6, 12, 24, 16),), ((16, 16, 16),)]
    _compare(reader, lambda arch: 2 * sum(arch) + len(arch) + 1, cases, mistakes)


def check_features(reader: Callable) -> None:
    """(C, k, arch) -> channels at the head, halved between. Chapter: variants."""

    def right(C, k, arch):
        for num_layers in arch[:-1]:
            C = (C + num_layers * k) // 2
        return C + arch[-1] * k

    mistakes = {
        "No halving after the last block.": lambda C, k, a: right(C, k, a) / 2,
        "Transitions halve in between.": lambda C, k, a: C + sum(a) * k,
        "The stem's channels count too.": lambda C, k, a: right(0, k, a),
        "Blocks add to what is there.": lambda C, k, a: a[-1] * k,
    }
    _compare(reader, right, [(64, 32, (6, 12, 24, 16)), (64, 32, (4, 4))], mistakes)


def check_log_rmse(reader: Callable) -> None:
    """(predicted, prices) -> RMSE of the log price. Chapter: housing."""

    def rms(errors):
        return np.mean(errors**2) ** 0.5

    mistakes = {
        "Take logarithms first.": lambda p, y: rms(p - y),
        "The root is missing.": lambda p, y: rms(np.log(p / y)) ** 2,
        "A mean, not a sum.": lambda p, y: rms(np.log(p / y)) * len(p) ** 0.5,
        "Square, not absolute.": lambda p, y: np.mean(np.abs(np.log(p / y))),
        "The root of the mean.": lambda p, y: rms(np.log(p / y)) ** 2 / len(p),
        "That is relative: no logarithm.": lambda p, y: rms(p / y - 1),
    }
    cases = [(np.array([110.0, 160.0, 600.0]), np.array([100.0, 200.0, 400.0]))]
    _compare(reader, lambda p, y: rms(np.log(p / y)), cases, mistakes)


def check_mlp(reader: Callable) -> None:
    """(inputs, k, L) -> parameters of a dense perceptron. Chapter: housing."""

    def right(n, k, L):
        return sum((n + i * k + 1) * k for i in range(L)) + n + L * k + 1

    mistakes = {
        "Layers have biases.": lambda n, k, L: right(n, k, L) - L * k,
        "The head has a bias.": lambda n, k, L: right(n, k, L) - 1,
        "No bias is counted.": lambda n, k, L: right(n, k, L) - L * k - 1,
        "The head is missing.": lambda n, k, L: right(n, k, L) - n - L * k - 1,
        "The head reads all.": lambda n, k, L: right(n, k, L) - n - L * k + k,
        "Later layers read more.": lambda n, k, L: L * (n + 1) * k + n + L * k + 1,
    }
    _compare(reader, right, [(250, 8, 3), (5, 4, 1)], mistakes)


@torch.random.fork_rng(devices=[])  # the cells below see the same random numbers
def _compare(reader, right, cases, mistakes, describe=None):
    """Print whether a reader's function does what the right one does; raise nothing.

    `mistakes`: what to say -> a function; `describe`: a result -> what is compared.
    """
    if not callable(reader):
        return print(f"Not right yet: hand over the function, not {_show(reader)}.")
    found, expected, *wrong = (
        [_outcome(function, case, describe) for case in cases]
        for function in (reader, right, *mistakes.values())
    )
    name = getattr(reader, "__name__", "your function")
    unlike = [i for i in range(len(cases)) if not _agree(found[i], expected[i])]
    if all(value is None for value in found):
        print(f"Not done yet: {name} returns None. Put your code there.")
    elif not unlike:
        print(f"Right: {name} gives what was expected.")
    else:
        case, said, goal = (_show(each[unlike[0]]) for each in (cases, found, expected))
        said += ", but with other numbers" if said == goal else ""
        hints = compress(mistakes, [all(map(_agree, found, w)) for w in wrong])
        text = f"Not right yet: {name}{case} gives {said}; expected: {goal}."
        print(text, *list(hints)[:1])


def _outcome(function, case, describe):
    """What a call gives, or the error that it raises."""
    try:
        result = function(*copy.deepcopy(case))  # it may change its input in place
        return describe(result) if describe and result is not None else result
    except (Exception, SystemExit) as error:  # whatever the reader's code may raise
        return error


def _agree(value, expected):
    if isinstance(expected, str | Exception):
        error = isinstance(expected, Exception)
        return type(value) is type(expected) and (error or value == expected)
    with suppress(Exception):  # they differ, or cannot be compared
        if isinstance(value, Tensor) and isinstance(expected, Real):
            value = value.item()
        assert_close(value, expected, rtol=1e-5, atol=1e-8, check_dtype=False)
        return True
    return False


def _show(value):
    if isinstance(value, BaseException):
        frames = traceback.extract_tb(value.__traceback__)
        lines = [f" (at `{f.line}`)" for f in frames if f.filename != __file__]
        first = str(value).partition("\n")[0]
        return f"an error, {type(value).__name__}: {first}{''.join(lines[:1])}"
    with suppress(Exception):  # a number too large for a float, or a sparse tensor
        if isinstance(value, Real) and not isinstance(value, bool):
            return f"{value:,}" if float(value).is_integer() else f"{value:.6g}"
        if isinstance(value, Tensor | np.ndarray):
            small = 1 < np.prod(value.shape) <= 4
            text = value.tolist() if small else f"of shape {tuple(value.shape)}"
            return f"{type(value).__name__} {text}"
        if isinstance(value, list) and any(map(callable, value)):
            return f"{len(value)} layers"
        if isinstance(value, tuple | list):
            text = ", ".join(map(_show, value))
            return f"[{text}]" if isinstance(value, list) else f"({text})"
    kind = f"an object of type {type(value).__name__}"
    return repr(value) if isinstance(value, str | None) else kind
