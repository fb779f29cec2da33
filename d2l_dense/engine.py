"""What the trainer stands on: devices, precision, layout, averages."""

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from d2l import torch as d2l
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from d2l_dense.checks import check_bool, check_number, check_positive

# It announces a precision that the trainer has chosen, or was told, and a notebook
# would show that on some hardware and not on other.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

WORDS = {"acc": "accuracy"}  # D2L's word for a plot: ours in a history


def check_arguments(
    max_epochs: int,
    schedule: object,
    gradient_clip_val: float,
    seed: int,
    checkpoint: object,
    progress: bool,
) -> None:
    """Raise a ValueError that names an argument of `Trainer` that is out of range."""
    check_positive(max_epochs=max_epochs)
    check_bool(progress=progress)
    check_number("gradient_clip_val", gradient_clip_val, lambda x: x >= 0, ">= 0")
    # Each epoch's own seed, 10,007 times as large, has to fit 64 bits.
    fits = "0, 1, 2, ... below 2**50"
    check_number("seed", seed, lambda x: 0 <= x < 2**50 and x % 1 == 0, fits)
    if not isinstance(checkpoint, str | Path | None):
        raise ValueError(
            f"checkpoint={checkpoint!r}: expected the path of a file, or None"
        )
    if schedule is not None and not callable(schedule):
        raise ValueError(
            f"schedule={schedule!r}: expected a function of an optimizer and the "
            "number of steps, such as d2l_dense.one_cycle"
        )


def check_pair(name: str, model: object, data: object, kind: type, words: str) -> None:
    """Raise a TypeError unless they are what a method of `Trainer` takes."""
    if not isinstance(model, d2l.Module) or not isinstance(data, kind):
        found = f"{type(model).__name__}, {type(data).__name__}"
        raise TypeError(f"{name}({found}): expected a d2l.Module and a {words}")


def make_optimizer(model: d2l.Module) -> Optimizer:
    """What the model configures; a TypeError if that is not one torch optimizer."""
    optimizer = model.configure_optimizers()
    if not isinstance(optimizer, Optimizer):
        found = f"{type(optimizer).__module__}.{type(optimizer).__name__}"
        raise TypeError(
            f"{type(model).__name__}.configure_optimizers returned {found}; expected "
            "one torch.optim.Optimizer"
        )
    return optimizer


def make_scheduler(
    schedule: Callable | None, optimizer: Optimizer, num_steps: int
) -> LRScheduler | None:
    """What the schedule returns for so many steps, if there is one.

    Raises:
        TypeError: if that is no scheduler, or one that has to be told a figure.
    """
    if schedule is None:
        return None
    made = schedule(optimizer, num_steps)
    if not isinstance(made, LRScheduler):
        raise TypeError(f"schedule returned {made!r}: expected a scheduler")
    if isinstance(made, ReduceLROnPlateau):
        raise TypeError(
            "schedule returned a ReduceLROnPlateau: expected a scheduler that is "
            "stepped after each batch, without a figure, such as OneCycleLR"
        )
    return made


def make_fabric(accelerator: str, precision: str) -> tuple[Fabric, str]:
    """Return Lightning Fabric on the best device, and the precision it trains in.

    Under torchrun it joins the other processes; elsewhere it takes one device.

    Raises:
        ValueError: if there is no such accelerator or precision.
    """
    here = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available()}
    here["mps"] = torch.backends.mps.is_available()
    if not here.get(accelerator):
        names = ", ".join(name for name in here if here[name])
        raise ValueError(
            f"accelerator={accelerator!r}: expected one that is here: {names}"
        )
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun sets both
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    fabric = Fabric(accelerator=accelerator, devices=local, num_nodes=nodes)
    if precision == "auto":
        precision = best_precision(fabric.device)
    fabric = Fabric(
        accelerator=accelerator, devices=local, num_nodes=nodes, precision=precision
    )
    fabric.launch()
    return fabric, fabric.strategy.precision.precision


def best_precision(device: torch.device) -> str:
    """Return bf16 where the hardware multiplies it, on older CUDA fp16, else fp32.

    torch says that an older GPU can bf16 too; it only emulates it.
    """
    if device.type == "cpu":
        has = getattr(torch.cpu, "get_capabilities", dict)()
        bf16 = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return "bf16-mixed" if bf16 else "32-true"
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return "bf16-mixed" if major >= 8 else "16-mixed"
    return "32-true"


def place(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, in channels_last where convolutions gain by it."""
    model.to(device)
    dims = {p.dim() for p in model.parameters()}
    if 4 in dims and 5 not in dims and device.type in ("cpu", "cuda"):
        model.to(memory_format=torch.channels_last)


def materialise(model: nn.Module, loader: DataLoader) -> None:
    """Give lazy layers their shapes, by a forward pass over one batch."""
    if any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        X = next(iter(loader))[:-1]
        with torch.no_grad():  # in eval, to leave batch normalisation's averages
            model.to(X[0].device).eval()(*X)


def one_cycle(optimizer: torch.optim.Optimizer, num_steps: int) -> LRScheduler:
    """Warm up to the optimizer's learning rate, then anneal to almost nothing.

    Source: Smith and Topin (2018). Chapter: "Training".
    """
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=num_steps, cycle_momentum=False)


class Report:
    """Collect what a model reports through `d2l.Module.plot`, and average it.

    A context: within it, `plot` keeps the values on the device. D2L's own
    draws, and waits for the device at every step.
    """

    def __init__(self, model: d2l.Module) -> None:
        self.model, self.counts = model, []
        self.values: dict[str, list[Tensor]] = defaultdict(list)

    def __enter__(self) -> "Report":
        self.model.plot = self._keep
        return self

    def __exit__(self, *_: object) -> None:
        del self.model.plot

    def _keep(self, key: str, value: Tensor, train: bool) -> None:
        self.values[key].append(value.detach())

    def averages(self, fabric: Fabric) -> dict[str, float]:
        """Average over examples (`counts` a batch), over all processes."""
        counts = torch.tensor(self.counts, dtype=torch.float64)
        averages = {}
        for key, values in self.values.items():
            total = torch.stack(values).cpu().double() @ counts
            both = torch.stack((total, counts.sum()))
            if fabric.world_size > 1:  # through the device, which may have no float64
                both = fabric.all_reduce(both, reduce_op="sum")
            averages[WORDS.get(key, key)] = (both[0] / both[1]).item()
        return averages
