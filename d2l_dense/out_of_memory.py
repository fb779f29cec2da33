"""Say what would fit, where a training step did not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from d2l_dense import cost


@contextmanager
def explained(net: nn.Module, X: Tensor, mixed: bool = False) -> Iterator[None]:
    """Turn an out-of-memory error into one that says what to change.

    Args:
        mixed: whether activations are in half precision.

    Raises:
        MemoryError: what the step needs with each memory strategy, and the largest
            batch that the device's memory holds, in closed form.
    """
    try:
        yield
    except RuntimeError as error:
        # On CUDA the error has a type; on a CPU it has only words.
        cuda = isinstance(error, torch.OutOfMemoryError)
        if not cuda and "can't allocate memory" not in str(error):
            raise
        raise MemoryError(_advice(net, X, 2 if mixed else X.element_size())) from error


def _advice(net: nn.Module, X: Tensor, bytes_per_element: int) -> str:
    size = {"bytes_per_element": bytes_per_element}
    found = f"out of memory with a batch of shape {tuple(X.shape)}"
    config = dict(getattr(net, "hparams", {}))
    try:
        used = config.pop("memory", "plain")
        strategies = [{**config, "memory": memory} for memory in cost.MEMORY]
        peaks = [cost.peak(strategy, X.shape, **size) for strategy in strategies]
    except (TypeError, ValueError):  # no DenseNet: no closed form
        return f"{found}: take a smaller batch or smaller images"
    total = _device_memory(X.device)
    options = ", ".join(
        f"memory={memory!r} {peak.total / 1e9:.1f} GB (at most "
        f"{cost.largest_batch(strategy, X.shape[1:], total, **size)} images fit)"
        for memory, strategy, peak in zip(cost.MEMORY, strategies, peaks, strict=True)
    )
    return (
        f"{found} and memory={used!r}. A training step would need, at least: "
        f"{options}; the device has {total / 1e9:.1f} GB in all"
    )


def _device_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
