"""Take layers, transitions and stems apart, so that a shared buffer can serve them."""

from collections.abc import Sequence

from torch import nn

from d2l_dense.pools import FirstPixel
from d2l_dense.readers import Reader

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_NORM, _RELU, _CONV = {nn.BatchNorm2d}, {nn.ReLU}, {nn.Conv2d}
_POOL = {nn.AvgPool2d, nn.MaxPool2d, FirstPixel}  # computed twice, and without weights
_STEP = [_NORM, _RELU, _CONV]


def of_layer(layer: nn.Sequential) -> list[Reader]:
    """Take a layer of a dense block apart, or refuse it."""
    _check(layer, _STEP, 2 * _STEP)
    if type(layer) is not nn.Sequential or hooked(layer):
        _refuse(layer)
    return [Reader(layer[i], None, layer[i + 2]) for i in range(0, len(layer), 3)]


def of_transition(block: nn.Sequential) -> Reader:
    """Take a transition apart, or refuse it."""
    _check(block, [_NORM, _RELU, _POOL, _CONV])
    norm, _, pool, conv = block
    return Reader(norm, pool, conv)


def of_stem(
    stem: nn.Sequential,
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d]:
    """Take a stem apart, or refuse it."""
    _check(stem, [_CONV, _NORM, {nn.MaxPool2d}, _RELU])
    return tuple(stem)[:3]


def _check(layers: nn.Sequential, *kinds: Sequence[set[type]]) -> None:
    modules = list(layers.children())
    fits = any(
        len(kind) == len(modules)
        and all(type(m) in types for m, types in zip(modules, kind, strict=True))
        for kind in kinds
    )
    for module in modules:
        if isinstance(module, nn.Conv2d):
            fits &= module.padding_mode == "zeros" and type(module.padding) is tuple
        if isinstance(module, nn.BatchNorm2d):
            fits &= module.weight is not None and module.bias is not None
    if not fits or any(map(hooked, modules)):
        _refuse(layers)


def hooked(module: nn.Module) -> bool:
    """Whether a hook waits for its call."""
    return any(getattr(module, hook) for hook in _HOOKS)


def _refuse(layers: nn.Module) -> None:
    raise ValueError(
        "memory='shared' computes BatchNorm2d, ReLU and Conv2d, once or twice, and "
        f"pooling between blocks, without hooks; found {layers}. Use "
        "memory='checkpoint' or 'plain'."
    )
