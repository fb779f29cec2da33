"""The "Try it" exercises: each check prints what a function gives and should give.

Each has cases, (arguments, right result), and mistakes: hint -> result in the last.
"""

import copy
import traceback
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn
from torch.testing import assert_close


def check_block(function: Callable) -> None:
    """(X, layers) -> X with the layers' outputs behind it. Chapter: densenet."""

    def layer(shift):
        return lambda X: X.mean(dim=1, keepdim=True).repeat(1, 10, 1, 1) + shift

    def block(X, join=torch.hstack):  # which joins along dim=1
        X = join((X, first(X)))
        return join((X, second(X)))

    first, second = layer(1), layer(2)
    X = torch.linspace(-1, 1, 320).reshape(2, 10, 4, 4)
    Y = first(X)
    mistakes = {
        "You add; concatenate instead.": block(X, sum),
        "You join images; channels are dim=1.": block(X, torch.vstack),
        "The output replaces the input; join the two.": second(Y),
        "New channels go behind the old.": torch.hstack((block(X)[:, 20:], Y, X)),
        "The input's channels are missing.": block(X)[:, 10:],
        "One layer ran: is return in the loop?": torch.hstack((X, Y)),
        "Layer 2 has to read layer 1 too.": torch.hstack((X, Y, second(X))),
        "Layer 2 reads the input too.": torch.hstack((X, Y, second(Y))),
    }
    # Shapes are equal in the last case, where a sum raises no error.
    cases = [((Z, [first, second]), block(Z)) for Z in (X[:, :3], X)]
    _compare(function, cases, mistakes)


@torch.random.fork_rng(devices=[])
def check_transition(function: Callable) -> None:
    """(channels in, out) -> nn.Sequential that pools first. Chapter: densenet."""

    def describe(net):
        if not isinstance(net, nn.Module):
            return net
        Y = net.eval()(torch.zeros(2, 23, 8, 8))
        names = []
        for layer in net.train().modules():  # in evaluation no statistic has moved
            if not list(layer.children()):
                size = np.max(getattr(layer, "kernel_size", 0))
                names.append(f"{type(layer).__name__} {size or ''}".strip())
        return f"{', '.join(names)} -> {tuple(Y.shape[1:])}"

    B, R, A, M = nn.BatchNorm2d(23), nn.ReLU(), nn.AvgPool2d(2), nn.MaxPool2d(2)
    C, B10, net = nn.Conv2d(23, 10, 1), nn.BatchNorm2d(10), nn.Sequential
    mistakes = {
        "Equal outputs, but a convolution of all pixels.": net(B, R, C, A),
        "Pooling may not pass ReLU, which is no sum.": net(B, A, R, C),
        "BN comes before ReLU.": net(R, B, A, C),
        "BN and ReLU come before the convolution.": net(C, B10, R, A),
        "A maximum and a convolution may not swap.": net(B, R, M, C),
        "Nothing halves height and width.": net(B, R, C),
    }
    _compare(function, [((23, 10), net(B, R, A, C))], mistakes, describe)


def check_max_gradient(function: Callable) -> None:
    """(2x2 window, gradient of its maximum) -> its gradient. Chapter: pooling."""
    X, g = torch.tensor([[1.0, 4.0], [3.0, 2.0]]), 2.0
    right = g * (X == 4)
    mistakes = {
        "That is the average's.": torch.full((2, 2), g / 4),
        "One pixel receives it, not all.": torch.full((2, 2), g),
        "Not always the first pixel: the largest.": g * (X == 1),
        "Multiply by the gradient from above.": right / g,
        "The pixel's value has no part in it.": right * X,
    }
    _compare(function, [((X - 5, g), right), ((X, g), right)], mistakes)


def check_counterexample(function: Callable) -> None:
    """() -> (1, 2, 2, 2): maximum and sum do not swap. Chapter: pooling."""
    right = "a Tensor of shape (1, 2, 2, 2), with two results"

    def describe(X):
        if not isinstance(X, Tensor) or X.shape != (1, 2, 2, 2):
            return X
        of_sum, sum_of = X.sum(dim=1).max().item(), X.amax(dim=(2, 3)).sum().item()
        same = f"{of_sum:g} in both orders: both channels are largest at the same pixel"
        return right if abs(of_sum - sum_of) > 0 else same

    _compare(function, [((), right)], {}, describe)


def check_recomputed(function: Callable) -> None:
    """(x, a, g) -> gradients of x and a through relu(x * a). Chapter: memory."""
    x, g = torch.arange(1.0, 31.0).sin().reshape(2, 5, 3)
    a = torch.tensor([1.0, -2.0, 3.0])
    of_product, wrong = g * (x * a > 0), g * (x > 0)
    right = of_product * a, (of_product * x).sum(dim=0)
    mistakes = {
        "ReLU passes nothing where x * a < 0.": (g * a, (g * x).sum(dim=0)),
        "The mask is x * a > 0.": (wrong * a, (wrong * x).sum(dim=0)),
        "Sum a's over the rows.": (of_product * a, of_product * x),
        "First x's, then a's.": right[::-1],
    }
    _compare(function, [((x, a, g), right)], mistakes)


def check_weights(function: Callable) -> None:
    """(C, L, k) -> weights of a block's convolutions. Chapter: parameters."""
    C, L, k = 64, 4, 32
    read = C + (C + k) + (C + 2 * k) + (C + 3 * k)
    mistakes = {
        "Layer 2 reads k more than layer 1.": 9 * k * L * C,
        "Layer 1 reads C, not C + k.": 9 * k * (read + L * k),
        "Every layer reads the input's C too.": 9 * k * (read - L * C),
        "A pair of channels has 9 weights.": k * read,
        "No layer but the head reads all.": 9 * k * L * (C + L * k),
    }
    _compare(function, [((3, 2, 10), 1440), ((C, L, k), 9 * k * read)], mistakes)


def check_kept_bytes(function: Callable) -> None:
    """(N, side, C, k) -> bytes that two dense layers keep. Chapter: memory."""
    N, side, C, k = 2, 24, 64, 32
    read, pixels = C + (C + k), N * side**2
    mistakes = {
        "A float32 has 4 bytes.": 2 * read * pixels,
        "Pixels: side times side.": 4 * 2 * read * N * side,
        "Two tensors a layer are kept.": 4 * read * pixels,
        "Layer 1 reads C.": 4 * 2 * (read + 2 * k) * pixels,
        "That is the features once.": 4 * (C + 2 * k) * pixels,
        "Layer 2 reads k more.": 4 * 2 * (C + C) * pixels,
    }
    cases = [((128, 8, 3, 10), 1_048_576), ((N, side, C, k), 4 * 2 * read * pixels)]
    _compare(function, cases, mistakes)


def check_depth(function: Callable) -> None:
    """Arch, with bottlenecks -> convolutions and linear layer. Chapter: variants."""
    layers, blocks = 6 + 12 + 32 + 32, 4
    mistakes = {
        "A layer has two convolutions.": layers + blocks + 1,
        "Transitions have one each.": 2 * layers + 2,
        "None after the last block.": 2 * layers + blocks + 2,
        "Stem or head is missing.": 2 * layers + blocks,
    }
    names = {(6, 12, 24, 16): 121, (16, 16, 16): 100, (6, 12, 32, 32): 169}
    _compare(function, [((arch,), name) for arch, name in names.items()], mistakes)


def check_features(function: Callable) -> None:
    """(C, k, arch) -> channels at the head, halved between. Chapter: variants."""
    C, k, arch, right = 64, 32, (6, 12, 32, 32), 1664
    mistakes = {
        "No halving after the last block.": right / 2,
        "Transitions halve in between.": C + sum(arch) * k,
        "The stem's channels count too.": right - C / 2**3,
        "Blocks add to what is there.": arch[-1] * k,
    }
    cases = [((64, 32, (4, 4)), 224), ((C, k, arch), right)]
    _compare(function, cases, mistakes)


def check_latest(function: Callable) -> None:
    """(C, k, i, m) -> where layer i reads its latest m sources. Chapter: reuse."""
    C, k, i, m = 64, 32, 4, 2
    start, stop = C + (i - 1 - m) * k, C + (i - 1) * k
    mistakes = {
        "Layer i reads the sources 0 to i - 1.": (start + k, stop + k),
        "Those are the earliest.": (0, C + (m - 1) * k),
        "The block's input has C channels, not k.": ((i - m) * k, i * k),
        "That is one source, not m.": (stop - k, stop),
        "A slice stops behind the last channel.": (start, stop - 1),
    }
    cases = [((30, 10, 2, 2), (0, 40)), ((C, k, i, m), (start, stop))]
    _compare(function, cases, mistakes)


def check_log_rmse(function: Callable) -> None:
    """(predicted, prices) -> RMSE of the log price. Chapter: housing."""
    p, y = np.array([110.0, 160.0, 600.0]), np.array([100.0, 200.0, 400.0])
    errors = np.log(p / y)
    mistakes = {
        "Take logarithms first.": np.mean((p - y) ** 2) ** 0.5,
        "The root is missing.": np.mean(errors**2),
        "A mean, not a sum.": np.sum(errors**2) ** 0.5,
        "Square, not absolute.": np.mean(np.abs(errors)),
        "That is relative: no logarithm.": np.mean((p / y - 1) ** 2) ** 0.5,
    }
    _compare(function, [((p, y), np.mean(errors**2) ** 0.5)], mistakes)


def check_mlp(function: Callable) -> None:
    """(inputs, k, L) -> parameters of a dense MLP. Chapter: housing."""
    n, k, L = 250, 8, 3
    weights, head = k * (n + (n + k) + (n + 2 * k)), n + 3 * k + 1
    mistakes = {
        "The head has a bias.": weights + L * k + head - 1,
        "No bias is counted.": weights + head - 1,
        "The head is missing.": weights + L * k,
        "The head reads all.": weights + L * k + k + 1,
        "Later layers read more.": L * (n + 1) * k + head,
    }
    _compare(function, [((5, 4, 1), 34), ((n, k, L), weights + L * k + head)], mistakes)


@torch.random.fork_rng(devices=[])  # the cells below see the same random numbers
def _compare(function, cases, mistakes, describe=lambda result: result):
    """Print whether a student's function is right in each case, and raise nothing."""
    name = getattr(function, "__name__", "your function")
    results = []
    for arguments, _ in cases:
        try:
            results.append(describe(function(*copy.deepcopy(arguments))))
        except (Exception, SystemExit) as error:
            results.append(error)
    hints = [hint for hint, y in mistakes.items() if _equal(results[-1], describe(y))]
    for (arguments, right), found in zip(cases, results, strict=True):
        if found is None:
            return print(f"Not done yet: {name} returns None. Put your code there.")
        if not _equal(found, describe(right)):
            said, goal = _show(found), _show(describe(right))
            said += ", but with other numbers" if said == goal else ""
            text = f"{name}{_show(arguments)} gives {said}; expected: {goal}."
            return print("Not right yet:", text, *hints)
    print(f"Right: {name} gives what was expected.")


def _equal(value, expected):
    """Whether two results are equal, but for rounding."""
    with suppress(Exception):  # they differ, or cannot be compared
        if isinstance(expected, int | float) and isinstance(value, Tensor | np.ndarray):
            value = value.item()
        assert_close(value, expected, rtol=5e-6, atol=1e-8, check_dtype=False)
        return True
    return isinstance(value, str) and value == expected


def _show(value):
    """A value or an error in a few words."""
    kind = type(value).__name__
    if isinstance(value, BaseException):
        places = traceback.extract_tb(value.__traceback__)[1:]  # first: `_compare`
        at = f" (at `{places[0].line}`)" if places else ""
        return f"an error, {kind}: {value}".partition("\n")[0] + at
    if isinstance(value, list | tuple):
        text = ", ".join(map(_show, value))
        return f"[{text}]" if isinstance(value, list) else f"({text})"
    if isinstance(value, Tensor | np.ndarray):
        few = 1 < np.prod(value.shape) <= 4
        return f"{kind} {value.tolist() if few else f'of shape {tuple(value.shape)}'}"
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return f"{round(value, 4):,}"
    return repr(value) if isinstance(value, str | bool) else f"a {kind} object"
