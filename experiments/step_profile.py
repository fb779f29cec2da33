"""Which operations a training step spends its time in."""

import os
from collections.abc import Iterator

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# A kind of work, and what the names of its operations contain; the first that fits.
KINDS = {
    "convolution": ("convolution", "conv2d", "mm"),  # 1x1: a product of matrices
    "batch normalization": ("batch_norm",),
    "ReLU": ("relu", "clamp_min", "threshold"),
    "pooling": ("pool",),
    "concatenation, copies and sums": ("cat", "copy", "aten::add", "aten::mul"),
}
REST = "all else"


def shares(steps: Iterator[int], device: torch.device, n: int = 3) -> dict[str, float]:
    """Return the share of time by kind of work in n steps; on CUDA, the device's."""
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it complains of a missing GPU
    with profile(activities=kinds) as found:
        for _ in range(n):
            next(steps)
    seconds = dict.fromkeys((*KINDS, REST), 0.0)
    for event in found.key_averages():
        if event.device_type == DeviceType.CPU:  # an operation, not its kernels
            on_cuda = device.type == "cuda"
            own = event.self_device_time_total if on_cuda else event.self_cpu_time_total
            seconds[kind(event.key)] += own
    whole = sum(seconds.values())
    return {name: part / whole for name, part in seconds.items()}


def kind(operation: str) -> str:
    """The kind of work of an operation, by its name."""
    fits = (name for name, parts in KINDS.items() if any(p in operation for p in parts))
    return next(fits, REST)
