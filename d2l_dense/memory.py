"""The memory of a training step: estimated with fake tensors, or measured.

Both take one step as a trainer does: forward, backward, optimizer. The optimizer's
state is there, the gradients of the step before are gone.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import accumulate
from unittest.mock import patch

import torch
from d2l import torch as d2l
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile
from torch.utils.hooks import RemovableHandle

from d2l_dense import checks

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


def training_peak(
    net: nn.Module, input_shape: tuple, optimizer=None, *, autocast=None
) -> dict[str, int]:
    """Estimate the bytes at the peak of a training step, by PyTorch's categories.

    PyTorch's `MemTracker` follows fake tensors, which have a shape and no content; only
    the weights are copied. It cannot see workspaces of cuDNN, or fragmentation.

    Args:
        optimizer: a `MakeOptimizer`; None: the net's own, or plain SGD.
        autocast: the type of mixed precision, such as `torch.bfloat16`.
    Chapter: "Is this really the case?".
    """
    shape = checks.counts("input_shape", input_shape)
    net = _copy(net).to("meta")
    with FakeTensorMode(allow_non_fake_inputs=True):
        net.to_empty(device="cpu")  # of fake tensors
        dtype = next((p.dtype for p in net.parameters()), None)
        X, y = torch.zeros(*shape, dtype=dtype), torch.zeros(shape[0], dtype=torch.long)
        made = _optimizer(net, optimizer)
        tracker = MemTracker()
        tracker.track_external(net, made, X, y)
        # It waits for the gradient of each parameter; a frozen one gets none.
        no_handles = [RemovableHandle(OrderedDict())] * 2
        frozen = [p for p in net.parameters() if not p.requires_grad]
        tracker._param_to_grad_hook_handles.update(dict.fromkeys(frozen, no_handles))
        with tracker:
            _step(net, made, X, y, autocast)
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    return {getattr(key, "value", key).lower(): size for key, size in peak.items()}


def measure(
    net: nn.Module, batch: tuple[Tensor, Tensor], optimizer=None, *, autocast=None
) -> dict[str, int]:
    """Take a training step of a copy; return the bytes allocated at its peak, "total".

    On CUDA the allocator's statistics are read, and "reserved" is what it took from
    the device; on a CPU the profiler's list of allocations is added up (`timeline`).
    Network and batch (X, y) are on one device; the rest is as in `training_peak`.

    Chapter: "Is this really the case?".
    """
    X, y = batch
    if checks.choice("the batch's device", X.device.type, ("cpu", "cuda")) == "cpu":
        return {"total": max(timeline(net, batch, optimizer, autocast=autocast))}
    torch.cuda.empty_cache()  # what is cached from before does not count
    before = torch.cuda.memory_allocated(X.device)
    net = _copy(net)
    made = _optimizer(net, optimizer)
    torch.cuda.reset_peak_memory_stats(X.device)
    _step(net, made, X, y, autocast)
    total = torch.cuda.max_memory_allocated(X.device) - before + X.nbytes + y.nbytes
    return {"total": total, "reserved": torch.cuda.max_memory_reserved(X.device)}


def timeline(
    net: nn.Module, batch: tuple[Tensor, Tensor], optimizer=None, *, autocast=None
) -> list[int]:
    """Like `measure`, on a CPU: the bytes held after each allocation of the step."""
    net, (X, y) = _copy(net), batch
    made = _optimizer(net, optimizer)
    states = [value for state in made.state.values() for value in state.values()]
    held = [*net.parameters(), *net.buffers(), *filter(torch.is_tensor, states), X, y]
    # On the terminal, the profiler would complain of a missing GPU.
    quiet = patch.dict(os.environ, KINETO_LOG_LEVEL="6")
    with quiet, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        _step(net, made, X, y, autocast)
    events = sorted(prof.profiler.kineto_results.events(), key=lambda e: e.start_ns())
    changes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return list(accumulate(changes, initial=sum(tensor.nbytes for tensor in held)))


def _copy(net: nn.Module) -> nn.Module:
    """A copy to take a step with, without gradients."""
    if any(map(nn.parameter.is_lazy, net.parameters())):
        raise RuntimeError("an uninitialized parameter: apply the net to a batch first")
    trainer = getattr(net, "trainer", None)  # it holds the data: not to be copied
    net = deepcopy(net, {id(trainer): trainer})
    net.zero_grad()
    return net


def _optimizer(net: nn.Module, make: MakeOptimizer | None) -> Optimizer:
    """The optimizer, with its state as after a first step."""
    if make is None and isinstance(net, d2l.Module):
        optimizer = net.configure_optimizers()
    else:
        optimizer = (make or torch.optim.SGD)(net.parameters())
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def _step(net, optimizer, X, y, autocast):
    with torch.autocast(X.device.type, autocast, enabled=autocast is not None):
        output = net(X)
        is_classifier = isinstance(net, d2l.Classifier)
        loss = net.loss(output, y) if is_classifier else output.square().mean()
    loss.backward()
    optimizer.step()
