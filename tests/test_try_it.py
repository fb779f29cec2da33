"""d2l_dense/try_it: what a reader's code may be, and what the reader is told."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from d2l_dense import try_it

CHECKS = [getattr(try_it, name) for name in try_it.__all__]
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)


def nothing(*_):
    return None


def broken(*_):
    raise RuntimeError("out of luck\nsecond line")


def dense(X, layers):
    for layer in layers:
        X = torch.cat((X, layer(X)), dim=1)
    return X


def adds(X, layers):
    for layer in layers:
        X = layer(X) + X
    return X


def chain(X, layers):
    for layer in layers:
        X = layer(X)
    return X


def loses_the_input(X, layers):
    return dense(X, layers)[:, X.shape[1] :]


def returns_early(X, layers):
    for layer in layers:
        return torch.cat((X, layer(X)), dim=1)


def joins_images(X, layers):
    for layer in layers:
        X = torch.cat((X, layer(X)))
    return X


def new_ones_first(X, layers):
    for layer in layers:
        X = torch.cat((layer(X), X), dim=1)
    return X


def star(X, layers):
    return torch.cat([X, *(layer(X) for layer in layers)], dim=1)


def wrong_name(X, layers):
    return torch.concatenated(X)


def transition(order):
    def build(c, out):
        parts = {
            "B": nn.BatchNorm2d(out if order.index("C") < order.index("B") else c),
            "R": nn.ReLU(),
            "P": nn.AvgPool2d(2),
            "M": nn.MaxPool2d(2),
            "C": nn.Conv2d(c, out, 1),
        }
        return nn.Sequential(*(parts[letter] for letter in order))

    return build


def max_gradient(X, g):
    X = X.clone().requires_grad_()
    F.max_pool2d(X[None], 2).sum().mul(g).backward()
    return X.grad


def recomputed(x, a, g):
    x, a = x.clone().requires_grad_(), a.clone().requires_grad_()
    return torch.autograd.grad(torch.relu(x * a), (x, a), g)


def forgets_the_mask(x, a, g):
    return g * a, (g * x).sum(dim=0)


def forgets_the_sum(x, a, g):
    of_z = g * (x * a > 0)
    return of_z * a, of_z * x


def one_hot(*places):
    X = torch.zeros(1, 2, 2, 2)
    for channel, place in enumerate(places):
        X[0, channel].view(-1)[place] = 1
    return X


def weights(C, L, k):
    return 9 * k * (L * C + k * L * (L - 1) // 2)


def features(C, k, arch):
    for layers in arch[:-1]:
        C = (C + layers * k) // 2
    return C + arch[-1] * k


def log_rmse(p, y):
    return np.sqrt(np.mean((np.log(p) - np.log(y)) ** 2))


def mlp(n, k, L):
    return sum((n + i * k + 1) * k for i in range(L)) + n + L * k + 1


RIGHT = [
    (try_it.check_block, dense),
    (try_it.check_transition, transition("BRPC")),
    (try_it.check_max_gradient, max_gradient),
    (try_it.check_counterexample, lambda: one_hot(0, 3)),
    (try_it.check_recomputed, recomputed),
    (try_it.check_weights, weights),
    (try_it.check_weights, lambda *a: torch.tensor(weights(*a))),
    (try_it.check_quotient, lambda L: 2 * L**2 / (L - 1)),
    (try_it.check_kept_bytes, lambda N, s, C, k: 8 * N * s * s * (C + C + k)),
    (try_it.check_depth, lambda arch: 1 + 2 * sum(arch) + len(arch) - 1 + 1),
    (try_it.check_features, features),
    (try_it.check_log_rmse, log_rmse),
    (try_it.check_mlp, mlp),
]
WRONG = [
    (try_it.check_block, adds, "RuntimeError", "X = layer(X) + X", "You add"),
    (try_it.check_block, chain, "(2, 10, 4, 4)", "(2, 23, 4, 4)", "join the two"),
    (try_it.check_block, loses_the_input, "(2, 20, 4, 4)", "input's 3 are missing"),
    (try_it.check_block, returns_early, "(2, 13, 4, 4)", "return in the loop"),
    (try_it.check_block, joins_images, "RuntimeError", "dim=1"),
    (try_it.check_block, new_ones_first, "right shape", "behind the old"),
    (try_it.check_block, star, "right shape", "layer 1 too"),
    (try_it.check_block, wrong_name, "AttributeError", "concatenated(X)"),
    (try_it.check_block, lambda X: X, "TypeError"),
    (try_it.check_block, lambda X, f: [X], "a list; expected", "(2, 23, 4, 4)"),
    (try_it.check_block, lambda *a: dense(*a).numpy(), "numpy.ndarray", "a Tensor:"),
    (try_it.check_max_gradient, lambda *a: max_gradient(*a).tolist(), "a list; expec"),
    (try_it.check_max_gradient, lambda *a: str(max_gradient(*a).tolist()), "a str; e"),
    (try_it.check_counterexample, lambda: one_hot(0, 3).numpy(), "ndarray, no Tensor"),
    (try_it.check_recomputed, lambda *a: [g.numpy() for g in recomputed(*a)], "ndarr"),
    (try_it.check_depth, lambda a: str(2 * sum(a) + len(a) + 1), "a str", "a number:"),
    (try_it.check_transition, transition("BRCP"), "four times|all pixels"),
    (try_it.check_transition, transition("BPRC"), "ReLU, which is no sum"),
    (try_it.check_transition, transition("RBPC"), "BN comes before ReLU"),
    (try_it.check_transition, transition("CBRP"), "before the convolution"),
    (try_it.check_transition, transition("BRMC"), "MaxPool2d", "may not swap"),
    (try_it.check_transition, transition("BRC"), "Nothing halves"),
    (try_it.check_transition, lambda c, out: [nn.ReLU()], "expected: BatchNorm2d"),
    (try_it.check_max_gradient, lambda X, g: X * 0 + g / 4, "average's"),
    (try_it.check_max_gradient, lambda X, g: X * 0 + g, "not all"),
    (try_it.check_max_gradient, lambda X, g: (X.max() == X) * 1.0, "from above"),
    (try_it.check_max_gradient, lambda X, g: (X.max() == X) * X * g, "no part"),
    (try_it.check_max_gradient, lambda X, g: one_hot(0)[0, 0] * g, "the largest"),
    (try_it.check_counterexample, lambda: one_hot(1, 1), "2 in both", "same pixel"),
    (try_it.check_counterexample, lambda: one_hot(1, 1)[0], "(2, 2, 2)"),
    (try_it.check_recomputed, forgets_the_mask, "passes nothing"),
    (try_it.check_recomputed, forgets_the_sum, "over the rows"),
    (try_it.check_recomputed, lambda *a: recomputed(*a)[::-1], "First x's"),
    (try_it.check_weights, lambda C, L, k: weights(C + k, L, k), "not C + k"),
    (try_it.check_weights, lambda C, L, k: 9 * C * k * L, "k more"),
    (try_it.check_weights, lambda C, L, k: weights(0, L, k), "input's C"),
    (try_it.check_weights, lambda C, L, k: weights(C, L, k) / 9, "9 weights"),
    (try_it.check_weights, lambda C, L, k: str(weights(C, L, k)), "1,440"),
    (try_it.check_quotient, lambda L: 2 * L, "gives 8", "expected: 10.6667", "Close"),
    (try_it.check_quotient, lambda L: (L - 1) / L / L / 2, "Upside down"),
    (try_it.check_quotient, lambda L: 2 * (L - 1), "not multiply"),
    (try_it.check_quotient, lambda L: L * L / (L - 1) / 2, "times 2"),
    (try_it.check_kept_bytes, lambda N, s, C, k: N * s * s * (4 * C + 2 * k), "4 b"),
    (try_it.check_kept_bytes, lambda N, s, C, k: 8 * N * s * (C + C + k), "side"),
    (try_it.check_kept_bytes, lambda N, s, C, k: 4 * N * s * s * (C + C + k), "Two"),
    (try_it.check_depth, lambda a: sum(a) + len(a) + 1, "gives 63", "121", "two conv"),
    (try_it.check_depth, lambda a: 2 * sum(a) + 2, "one each"),
    (try_it.check_depth, lambda a: 2 * sum(a) + len(a) + 2, "after the last"),
    (try_it.check_features, lambda *a: features(*a) / 2, "No halving after"),
    (try_it.check_features, lambda C, k, a: C + k * sum(a), "halve in between"),
    (try_it.check_features, lambda C, k, a: features(0, k, a), "stem"),
    (try_it.check_log_rmse, lambda p, y: np.mean((p - y) ** 2) ** 0.5, "logarithms"),
    (try_it.check_log_rmse, lambda p, y: log_rmse(p, y) ** 2, "root is missing"),
    (try_it.check_log_rmse, lambda p, y: log_rmse(p, y) * len(p) ** 0.5, "A mean"),
    (try_it.check_log_rmse, lambda p, y: np.mean((p / y - 1) ** 2) ** 0.5, "relative"),
    (try_it.check_mlp, lambda n, k, L: mlp(n, k, L) - 1, "head has a bias"),
    (try_it.check_mlp, lambda n, k, L: mlp(n, k, L) - L * k, "Layers have"),
    (try_it.check_mlp, lambda n, k, L: mlp(n, k, L) - n - L * k + k, "reads all"),
    (try_it.check_mlp, lambda n, k, L: True, "expected"),
]


@every_check
def test_a_stub_is_not_done_yet(check, capsys):
    check(nothing)
    assert capsys.readouterr().out == (
        "Not done yet: nothing returns None. Put your code there.\n"
    )


@pytest.mark.parametrize("check, reader", RIGHT)
def test_a_right_answer_is_right(check, reader, capsys):
    check(reader)
    assert capsys.readouterr().out.startswith("Right: ")


def test_every_check_has_right_and_wrong_answers_here():
    assert {check for check, _ in RIGHT} == set(CHECKS)
    assert {check for check, *_ in WRONG} == set(CHECKS)


@pytest.mark.parametrize("check, reader, words", [(c, r, w) for c, r, *w in WRONG])
def test_a_wrong_answer_is_told_what_is_wrong(check, reader, words, capsys):
    check(reader)
    out = capsys.readouterr().out
    assert out.startswith("Not right yet: ") and out.count("\n") == 1
    for word in words:
        assert any(part in out for part in word.split("|")), out


@every_check
def test_an_error_is_told_and_not_raised(check, capsys):
    check(broken)
    out = capsys.readouterr().out
    assert "stops with RuntimeError: out of luck (at `raise RuntimeError(" in out


@every_check
def test_an_exit_is_told_and_not_taken(check, capsys):
    check(lambda *_: exit())
    assert "stops with SystemExit" in capsys.readouterr().out


@every_check
@pytest.mark.parametrize(
    "wrong",
    [
        *("text", {}, object(), float("nan"), 1j, [None]),
        *(Fraction(1, 3), 10**5000, torch.eye(2).to_sparse()),
        torch.full((1, 2, 2, 2), torch.nan),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_type_is_told_and_not_raised(check, wrong, capsys):
    check(lambda *_: wrong)
    assert capsys.readouterr().out.startswith("Not right yet: ")


@every_check
def test_a_call_in_place_of_the_function_is_told(check, capsys):
    check(3)
    assert "hand over the function itself, not 3." in capsys.readouterr().out


@pytest.mark.parametrize("check, reader", RIGHT)
def test_what_the_reader_draws_changes_no_later_cell(check, reader, capsys):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    check(lambda *case: (torch.rand(5), reader(*case))[1])
    assert torch.equal(torch.rand(1), expected)
    assert capsys.readouterr().out.startswith("Right: ")


def test_input_changed_in_place_does_not_spoil_the_comparison(capsys):
    def in_place(X, layers):
        Y = dense(X, layers)
        X.zero_()
        return Y

    try_it.check_block(in_place)
    assert capsys.readouterr().out.startswith("Right: ")
