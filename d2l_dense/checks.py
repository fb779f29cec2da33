"""Refuse an argument whose wrong value would pass unseen or fail far away."""

import operator
from collections.abc import Iterable
from contextlib import suppress
from typing import Any


def count(name: str, value: Any, minimum: int = 1, optional: bool = False) -> int:
    """Return a whole number, `minimum` or more, as an int; None too, if `optional`."""
    if optional and value is None:
        return None
    with suppress(TypeError):
        if operator.index(value) >= minimum and not isinstance(value, bool):
            return operator.index(value)
    raise ValueError(f"{name}={value!r}: expected a whole number, {minimum} or more")


def counts(name: str, values: Any, length: int | None = None) -> tuple[int, ...]:
    """Return whole numbers of 1 or more, `length` of them, as a tuple."""
    with suppress(TypeError, ValueError, KeyError):  # no iterator, set or dict
        numbers = tuple(count(name, values[i]) for i in range(len(values)))
        if numbers and length in (None, len(numbers)):
            return numbers
    what = f"whole numbers of 1 or more, such as {(4,) * (length or 4)}"
    raise ValueError(f"{name}={values!r}: expected {length or 'some'} {what}")


def share(name: str, value: float) -> float:
    """Return a share of more than 0, at most 1."""
    if not 0 < value <= 1:
        raise ValueError(f"{name}={value!r}: expected 0 < theta <= 1")
    return value


def choice(name: str, value: Any, choices: Iterable) -> Any:
    """Return `value` if it is one of `choices`; else name them in a ValueError."""
    choices = tuple(choices)
    if value not in choices:
        expected = ", ".join(map(str, choices))
        raise ValueError(f"{name}={value!r}: expected one of {expected}")
    return value
