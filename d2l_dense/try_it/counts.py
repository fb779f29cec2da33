"""Functions of numbers: closed forms of costs, and an error."""

from collections.abc import Callable
from typing import Any

import numpy as np

from d2l_dense import cost
from d2l_dense.try_it.compare import compare


def check_weights(reader: Callable) -> None:
    """(C, L, k) -> weights of a block's convolutions. Chapter: parameters."""
    mistakes = {
        "Layer 2 reads k more than layer 1.": lambda C, L, k: 9 * L * C * k,
        "Layer 1 reads C, not C + k.": lambda C, L, k: _weights(C + k, L, k),
        "Every layer reads the input's C too.": lambda C, L, k: _weights(0, L, k),
        "A pair of channels has 9 weights.": lambda C, L, k: _weights(C, L, k) // 9,
        "No layer but the head reads all.": lambda C, L, k: 9 * k * L * (C + L * k),
    }
    compare(reader, _weights, [(3, 2, 10), (64, 4, 32), (64, 1, 32)], mistakes)


def check_quotient(reader: Callable) -> None:
    """L -> weights, residual over dense, at equal width. Chapter: parameters."""
    mistakes = {
        "Close to it for large L, but not equal.": lambda L: 2 * L,
        "Upside down.": lambda L: (L - 1) / (2 * L * L),
        "Divide by (L - 1) / L, not multiply.": lambda L: 2 * (L - 1),
        "Divide by one half, that is, times 2.": lambda L: L * L / (L - 1) / 2,
        "The residual block has L layers.": lambda L: 2 * L / (L - 1),
    }
    compare(reader, lambda L: 2 * L * L / (L - 1), [(4,), (2,), (32,)], mistakes)


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

    def right(N: int, s: int, C: int, k: int) -> int:
        return 4 * N * s**2 * (4 * C + 2 * k)

    compare(reader, right, cases, mistakes)


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
    compare(reader, lambda arch: 2 * sum(arch) + len(arch) + 1, cases, mistakes)


def check_features(reader: Callable) -> None:
    """(C, k, arch) -> channels at the head, halved between. Chapter: variants."""

    def right(C: int, k: int, arch: tuple, last: float = 1) -> float:
        for num_layers in arch[:-1]:
            C = (C + num_layers * k) // 2
        return (C + arch[-1] * k) * last

    mistakes = {
        "No halving after the last block.": lambda C, k, a: right(C, k, a, 0.5),
        "Transitions halve in between.": lambda C, k, a: C + sum(a) * k,
        "The stem's channels count too.": lambda C, k, a: right(0, k, a),
        "Blocks add to what is there.": lambda C, k, a: a[-1] * k,
    }
    cases = [(64, 32, (6, 12, 24, 16)), (64, 32, (4, 4, 4, 4))]
    compare(reader, right, cases, mistakes)


def check_log_rmse(reader: Callable) -> None:
    """(predicted, prices) -> RMSE of the log price. Chapter: housing."""

    def right(p: Any, y: Any) -> float:
        return np.mean(np.log(p / y) ** 2) ** 0.5

    mistakes = {
        "Take logarithms first.": lambda p, y: np.mean((p - y) ** 2) ** 0.5,
        "The root is missing.": lambda p, y: right(p, y) ** 2,
        "A mean, not a sum.": lambda p, y: np.sum(np.log(p / y) ** 2) ** 0.5,
        "Square, not absolute.": lambda p, y: np.mean(np.abs(np.log(p / y))),
        "The root of the mean.": lambda p, y: np.mean(np.log(p / y) ** 2) / len(p),
        "That is relative: no logarithm.": lambda p, y: (
            np.mean((p / y - 1) ** 2) ** 0.5
        ),
    }
    prices = np.array([100.0, 200.0, 400.0])
    compare(reader, right, [(prices * [1.1, 0.8, 1.5], prices)], mistakes)


def check_mlp(reader: Callable) -> None:
    """(inputs, k, L) -> parameters of a dense perceptron. Chapter: housing."""

    def right(n: int, k: int, L: int) -> int:
        return cost.mlp_parameters(n, k, (L,))

    mistakes = {
        "Layers have biases.": lambda n, k, L: right(n, k, L) - L * k,
        "The head has a bias.": lambda n, k, L: right(n, k, L) - 1,
        "No bias is counted.": lambda n, k, L: right(n, k, L) - L * k - 1,
        "The head is missing.": lambda n, k, L: right(n, k, L) - n - L * k - 1,
        "The head reads all.": lambda n, k, L: right(n, k, L) - n - L * k + k,
        "Later layers read more.": lambda n, k, L: L * (n + 1) * k + n + L * k + 1,
    }
    compare(reader, right, [(250, 8, 3), (5, 4, 1)], mistakes)


def _weights(C: int, L: int, k: int) -> int:
    return sum(9 * (C + i * k) * k for i in range(L))
