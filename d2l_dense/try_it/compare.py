"""Compare a reader's function with the right one, and with typical mistakes."""

import copy
import functools
import math
import traceback
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def compare(
    reader: Callable[..., Any],
    right: Callable[..., Any],
    cases: Sequence[tuple],
    mistakes: dict[str, Callable[..., Any]],
) -> None:
    """Print whether a function agrees with `right` on all cases, and if not, where.

    `mistakes` maps what to say to a function that makes the mistake: it is said where
    the reader's results are the same in every case. Nothing is raised, so that a
    notebook with places to fill in runs from top to bottom.
    """
    with torch.random.fork_rng(devices=[]):  # the cells below see the same numbers
        print(_verdict(reader, right, cases, mistakes))


def _verdict(
    reader: Callable[..., Any],
    right: Callable[..., Any],
    cases: Sequence[tuple],
    mistakes: dict[str, Callable[..., Any]],
) -> str:
    if not callable(reader):
        return f"Not right yet: hand over the function itself, not {_show(reader)}."
    name = getattr(reader, "__name__", "your function")
    found = [_outcome(reader, case) for case in cases]
    if all(value is None for value in found):
        return f"Not done yet: {name} returns None. Put your code there."
    for case, value in zip(cases, found, strict=True):
        expected = right(*copy.deepcopy(case))
        if _agree(value, expected):
            continue
        told = f"gives {_show(value)}; expected: {_show(expected)}."
        if isinstance(value, BaseException):
            told = f"stops with {_error(value)}; expected: {_show(expected)}."
        elif odd := _odd(value, expected):
            told = odd
        elif _show(value) == _show(expected):
            told = "gives the right shape, but other numbers than expected."
        parts = [f"Not right yet: {name}({', '.join(map(_show, case))}) {told}"]
        for text, mistake in mistakes.items():
            if all(map(_agree, found, [_outcome(mistake, case) for case in cases])):
                parts.append(text)
                break
        return " ".join(parts)
    return f"Right: {name} gives what was expected."


def judge(reader: Callable[..., Any], tell: Callable[[Any], Any]) -> Any:
    """The reader's function, with what `tell` says of each result in its place."""
    if not callable(reader):
        return reader

    @functools.wraps(reader)
    def told(*case: Any) -> Any:
        result = reader(*case)
        return None if result is None else tell(result)

    return told


def _outcome(function: Callable[..., Any], case: tuple) -> Any:
    """What a call returns, or the error that it raises."""
    try:
        return function(*copy.deepcopy(case))  # it may change its input in place
    except (Exception, SystemExit) as error:  # whatever the reader's code may raise
        return error


def _agree(value: Any, expected: Any) -> bool:
    try:
        return _same(value, expected)
    except Exception:  # what cannot be compared is not the same
        return False


def _same(value: Any, expected: Any) -> bool:
    if isinstance(expected, Exception):
        return type(value) is type(expected)
    if isinstance(expected, tuple):
        same = isinstance(value, tuple | list) and len(value) == len(expected)
        return same and all(map(_agree, value, expected))
    if isinstance(value, Tensor) and not isinstance(expected, Tensor):
        value = value.item() if value.numel() == 1 else value
    if isinstance(expected, Tensor):
        same = isinstance(value, Tensor) and value.shape == expected.shape
        return same and torch.allclose(value.double(), expected.double())
    if isinstance(expected, Real) and isinstance(value, Real):
        same = isinstance(value, bool) == isinstance(expected, bool)
        return same and math.isclose(value, expected, rel_tol=1e-6)
    return type(value) is type(expected) and value == expected


def _odd(value: Any, expected: Any) -> str | None:
    """What to say of the first that should be a Tensor or a number, and is none."""
    if isinstance(expected, tuple) and isinstance(value, tuple | list):
        return next(filter(None, map(_odd, value, expected)), None)
    if isinstance(expected, Tensor) and not isinstance(value, Tensor | None):
        return f"gives a {kind(value)}; expected a Tensor: {_show(expected)}."
    if isinstance(expected, Real) and not isinstance(value, Real | Tensor | None):
        return f"gives a {kind(value)}; expected a number: {_show(expected)}."
    return None


def kind(value: Any) -> str:
    """The name of a value's type, with its module."""
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    return name.removeprefix("builtins.")


def _show(value: Any) -> str:
    try:
        return _text(value)
    except Exception:  # a fraction, or a number too large for a float
        return f"an object of type {type(value).__name__}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        return f"{value:,}" if float(value).is_integer() else f"{value:.6g}"
    if isinstance(value, Tensor | np.ndarray):
        small = value.ndim and math.prod(value.shape) <= 4
        shape = f"shape {tuple(value.shape)}"
        return str(value.tolist()) if small else shape
    if isinstance(value, tuple | list):
        if any(map(callable, value)):
            return f"{len(value)} layers"
        inner = ", ".join(map(_show, value))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _error(error: BaseException) -> str:
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.line for frame in frames if frame.filename != __file__]
    return f"{text} (at `{lines[0]}`)" if lines and lines[0] else text
