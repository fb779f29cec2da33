"""d2l_dense/exercises.py: what a reader's code may be, and what the reader is told."""

from copy import deepcopy
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import assert_equal_states
from torch import nn
from torch.nn import functional as F

from d2l_dense import exercises


@pytest.fixture
def told(capsys):
    """A function: what the check of this name prints of a reader's function."""

    def told(name, reader):
        getattr(exercises, f"check_{name}")(reader)
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        return out.rstrip("\n")

    return told


def dense(X, layers):
    for layer in layers:
        X = torch.cat((X, layer(X)), dim=1)
    return X


def adds(X, layers):
    for layer in layers:
        X = layer(X) + X
    return X


def transition(order):
    def build(c, out):
        parts = {
            "B": nn.BatchNorm2d(c),
            "R": nn.ReLU(),
            "P": nn.AvgPool2d(2),
            "C": nn.Conv2d(c, out, 1, bias=False),
            "3": nn.Conv2d(c, out, 3, padding=1),
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


def one_hot(*places):
    X = torch.zeros(1, 2, 2, 2)
    for channel, place in enumerate(places):
        X[0, channel].view(-1)[place] = 1
    return X


def features(C, k, arch):
    for i, layers in enumerate(arch):
        C = (C if i == 0 else C // 2) + layers * k
    return C


def latest(C, k, i, m):
    sources = [list(range(C))] + [[*range(C + j * k, C + j * k + k)] for j in range(i)]
    channels = sum(sources[i - m : i], [])
    return channels[0], channels[-1] + 1


RIGHT = {
    "block": dense,
    "transition": transition("BRPC"),
    "max_gradient": max_gradient,
    "counterexample": lambda: one_hot(0, 3),
    "recomputed": recomputed,
    "weights": lambda C, L, k: 9 * k * (L * C + k * L * (L - 1) // 2),
    "kept_bytes": lambda N, s, C, k: 8 * N * s * s * (C + C + k),
    "depth": lambda arch: 1 + 2 * sum(arch) + len(arch) - 1 + 1,
    "features": lambda *case: torch.tensor(features(*case)),  # as good as a number
    "latest": latest,
    "log_rmse": lambda p, y: np.array(np.mean(np.log(p / y) ** 2) ** 0.5),  # as well
    "mlp": lambda n, k, L: L * (n + 1) * k + k * k * L * (L - 1) // 2 + n + L * k + 1,
}
WRONG = [  # code, and words of the answer
    ("block", adds, "RuntimeError", "X = layer(X) + X", "You add"),
    ("block", lambda X, f: dense(X, f[:1]), "(2, 13, 4, 4)", "return in the loop"),
    ("block", lambda X, f: dense(X, f).flip(1), "(2, 23, 4, 4), but with other"),
    ("block", lambda X, f: torch.concatenated(X), "AttributeError", "concatenated(X)"),
    ("block", lambda X: X, "TypeError"),
    ("block", lambda X, f: [X], "gives [Tensor of", "expected: Tensor of shape (2, 23"),
    ("block", lambda *a: dense(*a).numpy(), "gives ndarray of ", "Tensor of shape"),
    ("transition", transition("BRCP"), "AvgPool2d 2, Conv2d 1 -> (10,", "all pixels"),
    ("transition", transition("BRP3"), "Conv2d 3"),
    ("transition", lambda c, out: transition("BRPC")(c, c), "(23, 4, 4)'; expected"),
    ("transition", lambda c, out: [nn.ReLU()], "gives [a ReLU object]; expected"),
    ("max_gradient", lambda *a: max_gradient(*a).tolist(), "gives [[0.0, 2.0], [0.0"),
    ("max_gradient", lambda X, g: X * 0 + g / 4, "Tensor [[0.0, 2.0], ", "average's"),
    ("counterexample", lambda: one_hot(1, 1), "2 in both", "same pixel"),
    ("counterexample", lambda: one_hot(1, 1)[0], "gives Tensor of shape (2, 2, 2);"),
    ("recomputed", lambda *a: [g.numpy() for g in recomputed(*a)], "gives [ndarray"),
    ("weights", lambda *_: "1440", "gives '1440'; expected: 1,440."),
    ("depth", lambda a: sum(a) + len(a) + 1, "gives 63; expected: 121. A layer "),
    ("depth", lambda a: a if a == (16, 16, 16) else 121, "gives (16, 16, 16);"),
    ("latest", lambda C, k, i, m: (C + (i - 1 - m) * k, C + i * k - k), "(20, 40); e"),
    ("latest", lambda C, k, i, m: (max(0, C + (i - 1 - m) * k), C + i * k - k), "(20"),
    ("latest", lambda *a: slice(*latest(*a)), "gives a slice object; expected"),
    ("mlp", lambda n, k, L: True, "expected"),
]


every_check = pytest.mark.parametrize("name", RIGHT)


def test_every_check_has_a_right_answer_here():
    checks = [name for name in dir(exercises) if name.startswith("check_")]
    assert checks == sorted(f"check_{name}" for name in RIGHT)


@every_check
def test_a_right_answer_is_right_and_changes_no_later_cell(name, told):
    """Not even where it draws random numbers, or changes its input in place."""

    def reader(*case):
        torch.rand(5)
        found = RIGHT[name](*case)
        for value in case:
            if isinstance(value, torch.Tensor):
                value.zero_()
        return found

    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert told(name, reader) == "Right: reader gives what was expected."
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name, reader, words", [(n, r, w) for n, r, *w in WRONG])
def test_a_wrong_answer_is_told_what_is_wrong(name, reader, words, told):
    out = told(name, reader)
    assert out.startswith("Not right yet: ")
    assert all(word in out for word in words), out


@every_check
def test_every_diagnosis_is_said_of_its_mistake_alone(name, told, monkeypatch):
    """So no two mistakes give the same results, nor the right ones."""
    mistakes = {}
    with monkeypatch.context() as patch:
        patch.setattr(exercises, "_compare", lambda *a: mistakes.update(a[2]))
        getattr(exercises, f"check_{name}")(None)
    for hint, mistake in mistakes.items():
        assert told(name, lambda *_, found=mistake: found).endswith(f". {hint}")
    assert len(mistakes) >= 4 or name == "counterexample"


@every_check
def test_what_is_no_answer_is_told_and_not_raised(name, told):
    def broken(*_):
        raise RuntimeError("out of luck\nsecond line")

    stub = told(name, lambda *_: None)
    assert stub == "Not done yet: <lambda> returns None. Put your code there."
    assert "error, RuntimeError: out of luck (at `raise Runtime" in told(name, broken)
    assert "error, SystemExit: " in told(name, lambda *_: exit())
    assert "an error, TypeError: 'int' object is not callable" in told(name, 3)


@every_check
def test_a_wrong_type_is_told_and_not_raised(name, told):
    numbers = [float("nan"), 1j, Fraction(1, 3), True]
    tensors = [torch.full((1, 2, 2, 2), torch.nan)]
    for wrong in ["text", {}, object(), [None], *numbers, *tensors]:
        assert told(name, lambda *_, wrong=wrong: wrong).startswith("Not right yet: ")


def test_the_readers_layers_are_left_as_they_are(told):
    """No hook and no changed statistics: they may be trained afterwards."""
    net = transition("BRPC")(23, 10)
    before = deepcopy(net)
    assert told("transition", lambda *_: net).startswith("Right: ")
    assert not any(layer._forward_hooks for layer in net.modules())
    assert_equal_states(net, before)


def test_d2ls_lazy_layers_are_as_good(told):
    norm, conv = nn.LazyBatchNorm2d(), nn.LazyConv2d(10, kernel_size=1)
    net = nn.Sequential(norm, nn.ReLU(), nn.AvgPool2d(2), conv)
    assert told("transition", lambda *_: net).startswith("Right: ")
