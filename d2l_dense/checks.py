"""Refuse an argument whose wrong value would pass unseen or fail far away."""

import operator
from collections.abc import Iterable
from typing import Any


def count(name: str, value: Any, minimum: int = 1, optional: bool = False) -> int:
    """Return a whole number, NumPy's among them, as an int; or None, if optional."""
    if optional and value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum or isinstance(value, bool):
        expected = f"expected a whole number, {minimum} or more"
        raise ValueError(f"{name}={value!r}: {expected}")
    return number


def counts(name: str, values: Any, length: int | None = None) -> tuple[int, ...]:
    """Return whole numbers of 1 or more, `length` of them, as a tuple."""
    try:
        numbers = tuple(count(name, value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or length not in (None, len(numbers)):
        what = "whole numbers of 1 or more, such as (4, 4, 4, 4)"
        raise ValueError(f"{name}={values!r}: expected {length or 'some'} {what}")
    return numbers


def share(name: str, value: float) -> float:
    """Return a share of more than 0, at most 1."""
    if not 0 < value <= 1:
        raise ValueError(f"{name}={value!r}: expected 0 < theta <= 1")
    return value


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return one of some words."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
    return value
