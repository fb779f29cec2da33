"""Refuse an argument whose wrong value would pass unseen or fail far away."""

import operator
from collections.abc import Callable, Iterable
from math import isfinite
from numbers import Real
from typing import Any

import torch
from torch import Tensor


def count(name: str, value: Any, minimum: int = 1) -> int:
    """Return a whole number, NumPy's among them, as a Python int.

    Raises:
        ValueError: if it is none, or less than `minimum`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise ValueError(
            f"{name}={value!r}: expected a whole number, {minimum} or more"
        )
    return number


def counts(name: str, values: Any, length: int | None = None) -> tuple[int, ...]:
    """Return a sequence of whole numbers of 1 or more (of this length) as a tuple.

    Raises:
        ValueError: if it is none, or has another length.
    """
    try:
        numbers = tuple(count(name, value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or isinstance(values, str) or length not in (None, len(numbers)):
        what = "whole numbers of 1 or more, such as (4, 4, 4, 4)"
        raise ValueError(f"{name}={values!r}: expected {length or 'some'} {what}")
    return numbers


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return one of some words.

    Raises:
        ValueError: if it is none of them; it lists them.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
    return value


# The old names, until no module uses them.
def is_count(value: Any) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_positive(**arguments: int) -> None:
    """Raise a ValueError that names the first argument not a whole number > 0."""
    for name, value in arguments.items():
        if not is_count(value):
            raise ValueError(f"{name}={value!r}: expected a whole number, 1 or more")


def check_number(
    name: str, value: float, fits: Callable[[float], bool], allowed: str
) -> None:
    """Raise a ValueError that names an argument not a finite number that fits."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not isfinite(value) or not fits(value):
        raise ValueError(f"{name}={value!r}: expected {allowed}")


def check_bool(**arguments: bool) -> None:
    """Raise a ValueError that names the first argument neither True nor False."""
    for name, value in arguments.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: expected True or False")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise a ValueError that lists the choices if an argument is none of them."""
    if value not in (choices := tuple(choices)):
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")


def autocasts(X: Tensor) -> bool:
    """Whether autocast is on for the device that a tensor is on."""
    kind = X.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def check_images(X: Tensor, in_channels: int, side: int, dtype: torch.dtype) -> None:
    """Raise a ValueError unless X is a batch of images of `side` pixels or more.

    Their type has to be that of the weights, `dtype`, but for autocast.
    """
    if not isinstance(X, Tensor):
        raise ValueError(f"images in a {type(X).__name__}: expected a torch.Tensor")
    if X.ndim != 4 or X.shape[1] != in_channels or not len(X):
        expected = f"(N, {in_channels}, H, W), N at least 1"
        raise ValueError(f"images of shape {tuple(X.shape)}: expected {expected}")
    if not X.is_floating_point():
        raise ValueError(
            f"images of type {X.dtype}: expected floats, such as X.float() / 255"
        )
    if X.dtype != dtype and not autocasts(X):
        raise ValueError(f"images of type {X.dtype}: expected {dtype}, the weights'")
    if min(X.shape[2:]) < side:
        h, w = X.shape[2:]
        raise ValueError(
            f"images of {h}x{w} pixels: this many blocks need at least {side}x{side}; "
            "resize the images or give `arch` fewer blocks"
        )
