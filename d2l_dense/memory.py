"""What a training step needs of memory: accounted without a device, or measured.

Both take one step as a trainer does: forward, backward, optimizer; the gradients of
the step before are gone, the optimizer's state is there. Chapter: "Is this really
the case?".
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import torch
from d2l import torch as d2l
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile
from torch.utils.hooks import RemovableHandle

from d2l_dense.checks import is_count

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
# PyTorch's words for what a tensor is there for, and ours.
_WORDS = {
    "PARAM": "parameters",
    "BUFFER": "buffers",
    "GRAD": "gradients",
    "OPT": "optimizer",
    "ACT": "activations",
    "TEMP": "temporaries",
    "OTH": "inputs",
}


@torch.inference_mode(False)
@torch.enable_grad()
def training_peak(
    net: nn.Module,
    input_shape: Sequence[int],
    optimizer: MakeOptimizer | None = None,
    *,
    autocast: torch.dtype | None = None,
) -> dict[str, int]:
    """Account the bytes at the peak of a training step, without taking it.

    PyTorch's `MemTracker` follows fake tensors, which have a shape and no
    content: nothing is allocated and no GPU is needed. It cannot see the
    workspaces of cuDNN or oneDNN, a kernel's scratch memory, or fragmentation. It
    takes about as long as 10,000 operations in Python: seconds for small nets, a
    minute for deep ones.

    Args:
        net: any network on any device, "meta" among them; it stays as it is.
        input_shape: (N, C, H, W), or whatever the net takes, in its own type.
        optimizer: makes the optimizer from the parameters, such as
            `torch.optim.SGD`; None takes the net's own, or plain SGD.
        autocast: the type of mixed precision, such as `torch.bfloat16`.

    Returns: bytes by category ("parameters", "buffers", "gradients", "optimizer",
        "activations", "temporaries", "inputs") and their sum, "total".

    Raises:
        ValueError: if `input_shape` does not consist of whole numbers above 0, or
            the net has lazy layers that have no shape yet.
        TypeError: if `optimizer` makes none, but is one.

    Chapter: "Is this really the case?".
    """
    if not input_shape or not all(map(is_count, input_shape)):
        raise ValueError(f"input_shape={input_shape!r}: expected such as (N, C, H, W)")
    with FakeTensorMode():
        net = _copy(net, fake=True)
        dtype = next((p.dtype for p in net.parameters()), None)
        X = torch.zeros(*input_shape, dtype=dtype)
        y = torch.zeros(len(X), dtype=torch.long)
        made = _optimizer(net, optimizer)
        tracker = MemTracker()
        tracker.track_external(net, made, X, y)
        # It would hook each parameter to see its gradient, and fail where none comes.
        none = [RemovableHandle(OrderedDict())] * 2
        frozen = [p for p in net.parameters() if not p.requires_grad]
        tracker._param_to_grad_hook_handles.update(dict.fromkeys(frozen, none))
        with tracker:
            _step(net, made, X, y, autocast)
    (found,) = tracker.get_tracker_snapshot("peak").values()
    found = {getattr(key, "name", key): size for key, size in found.items()}
    peak = {word: found.get(key, 0) for key, word in _WORDS.items()}
    return peak | {"total": sum(peak.values())}


@torch.inference_mode(False)
@torch.enable_grad()
def measure(
    net: nn.Module,
    batch: tuple[Tensor, Tensor],
    optimizer: MakeOptimizer | None = None,
    *,
    autocast: torch.dtype | None = None,
) -> dict[str, int]:
    """Take a training step of a copy, and return the bytes that it really allocates.

    On CUDA the allocator's own statistics are read; on a CPU the profiler's list of
    allocations is added up, so that memory which other parts of the process hold
    does not count.

    Args:
        net, batch: the network and (X, y), on one device.
        optimizer, autocast: as in `training_peak`.

    Returns: "total", the bytes at the peak (parameters, gradients and the
        optimizer's state among them), and on CUDA "reserved", what the allocator
        took from the device.

    Chapter: "Is this really the case?".
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(f"batch of type {type(batch).__name__}: expected (X, y)")
    X, y = (t.clone() if t.is_inference() else t for t in batch)
    if X.device.type not in ("cpu", "cuda"):
        raise ValueError(f"net and batch on {X.device}: expected cpu or cuda")
    before = torch.cuda.memory_allocated(X.device) if X.is_cuda else 0
    net = _copy(net, fake=False)
    made = _optimizer(net, optimizer)
    if X.is_cuda:
        torch.cuda.reset_peak_memory_stats(X.device)
        _step(net, made, X, y, autocast)
        found = torch.cuda.max_memory_allocated(X.device) - before
        reserved = torch.cuda.max_memory_reserved(X.device)
        return {"total": found + X.nbytes + y.nbytes, "reserved": reserved}
    states = [state.values() for state in made.state.values()]
    held = [*net.parameters(), *net.buffers(), *(v for s in states for v in s), X, y]
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it complains of a missing GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as events:
        _step(net, made, X, y, autocast)
    sizes = [
        (event.start_ns(), event.nbytes())
        for event in events.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    now = peak = sum(tensor.nbytes for tensor in held if isinstance(tensor, Tensor))
    for _, size in sorted(sizes):
        now += size
        peak = max(peak, now)
    return {"total": peak}


def _copy(net: nn.Module, fake: bool) -> nn.Module:
    """A copy to take a step with; if fake, with tensors of the mode that is on."""
    if any(isinstance(p, UninitializedParameter) for p in net.parameters()):
        raise ValueError("net has lazy layers, of unknown shape: call the net once")
    memo = {id(value): value for value in (getattr(net, "trainer", None),)}
    if fake:
        for p in (*net.parameters(), *net.buffers()):
            new = torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, device="cpu")
            if isinstance(p, nn.Parameter):
                new = nn.Parameter(new, p.requires_grad)
            memo[id(p)] = new
    net = deepcopy(net, memo)
    net.zero_grad(set_to_none=True)
    return net


def _optimizer(net: nn.Module, make: MakeOptimizer | None) -> Optimizer:
    """The optimizer, with its state as after a first step."""
    if isinstance(make, Optimizer):
        found = f"optimizer is a {type(make).__name__}"
        raise TypeError(f"{found}: expected a function that makes one of parameters")
    if make is not None:
        optimizer = make(net.parameters())
    elif isinstance(net, d2l.Module):
        optimizer = net.configure_optimizers()
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return optimizer


def _step(
    net: nn.Module,
    optimizer: Optimizer,
    X: Tensor,
    y: Tensor,
    autocast: torch.dtype | None,
) -> None:
    with torch.autocast(X.device.type, autocast, enabled=autocast is not None):
        output = net(X)
        if isinstance(net, d2l.Classifier):
            loss = net.loss(output, y)
        else:
            loss = output.square().mean()
    loss.backward()
    optimizer.step()
