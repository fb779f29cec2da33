"""Refuse an argument whose wrong value would pass unseen or fail far away."""

import operator
from collections.abc import Iterable
from typing import Any


def count(name: str, value: Any, minimum: int = 1) -> int:
    """Return a whole number, NumPy's among them, as an int; a ValueError if not one."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        expected = f"expected a whole number, {minimum} or more"
        raise ValueError(f"{name}={value!r}: {expected}")
    return number


def counts(name: str, values: Any, length: int | None = None) -> tuple[int, ...]:
    """Return whole numbers of 1 or more, `length` of them, as a tuple."""
    try:
        numbers = tuple(count(name, value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or isinstance(values, str) or length not in (None, len(numbers)):
        what = "whole numbers of 1 or more, such as (4, 4, 4, 4)"
        raise ValueError(f"{name}={values!r}: expected {length or 'some'} {what}")
    return numbers


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return one of some words; a ValueError if it is another."""
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
    return value
