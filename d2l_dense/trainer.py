"""D2L's trainer interface on Lightning Fabric's engine."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from d2l import torch as d2l
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from d2l_dense import checkpoint as checkpoints
from d2l_dense.blocks import check_positive

Schedule = Callable[[torch.optim.Optimizer, int], LRScheduler]
WORDS = {"acc": "accuracy"}  # D2L's word for a plot: ours in a history


def one_cycle(optimizer: torch.optim.Optimizer, num_steps: int) -> LRScheduler:
    """Warm up to the optimizer's learning rate, then anneal to almost nothing.

    Source: Smith and Topin (2018). Chapter: "Training".
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=num_steps, cycle_momentum=False)


class Trainer(d2l.HyperParameters):
    """Train a `d2l.Module` on a `d2l.DataModule`, on the best device there is.

    Args:
        max_epochs: passes over the training data.
        schedule: called with the optimizer and the number of all steps, returns
            a scheduler that is stepped after each batch; see `one_cycle`.
        gradient_clip_val: largest norm of the gradient; 0 does not clip.
        seed: of order, augmentation and dropout. Each epoch starts from a seed
            of its own, so a resumed run equals one that was not stopped.
        checkpoint: a file, written after every epoch. If it is there when `fit`
            begins, training goes on from it.
        accelerator: "auto", "cpu", "cuda" or "mps".
        precision: "auto" takes bf16 where the hardware multiplies it, fp16 on
            older CUDA, else fp32; or one of Lightning Fabric's names.
        progress: a bar in a terminal, elsewhere a line an epoch; False is quiet.

    Raises:
        ValueError: if an argument is out of range, or the checkpoint belongs to
            another run.

    Under torchrun all processes train one model, each on its share of every
    epoch; `batch_size` is then a process's, and BatchNorm's statistics too.

    Chapter: "Training".
    """

    def __init__(
        self,
        max_epochs: int = 10,
        *,
        schedule: Schedule | None = None,
        gradient_clip_val: float = 0,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        accelerator: str = "auto",
        precision: str = "auto",
        progress: bool = True,
    ) -> None:
        self.save_hyperparameters()
        check_positive(max_epochs=max_epochs)
        if not gradient_clip_val >= 0:
            raise ValueError(f"gradient_clip_val={gradient_clip_val!r}: expected >= 0")
        if schedule is not None and not callable(schedule):
            raise ValueError(
                f"schedule={schedule!r}: expected a function of an optimizer and the "
                "number of steps, such as d2l_dense.one_cycle"
            )
        local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun sets both
        world = int(os.environ.get("WORLD_SIZE", local))
        placement: dict[str, Any] = {
            "accelerator": accelerator,
            "devices": local,
            "num_nodes": world // local,
        }
        if precision == "auto":
            precision = _best_precision(Fabric(**placement).device)
        self.precision = precision
        self.fabric = Fabric(**placement, precision=precision)
        self.fabric.launch()

    @property
    def device(self) -> torch.device:
        """Where the model is trained."""
        return self.fabric.device

    def fit(self, model: d2l.Module, data: d2l.DataModule) -> list[dict[str, float]]:
        """Train, and return the history: one dict an epoch.

        Keys: epoch, seconds, lr, and train_ and val_ averages over every example
        of what the model reports through `plot` (loss, accuracy). The training
        averages are taken on the way, while the weights change.

        Raises:
            FloatingPointError: if the loss is not finite; names epoch, step, rate.
            TypeError: if the model does not configure one torch optimizer.
            OSError: if the checkpoint cannot be written.
        """
        self.prepare_data(data)
        self.prepare_model(model)
        self.history: list[dict[str, float]] = []
        path = Path(self.checkpoint) if self.checkpoint else None
        if path and path.exists():
            self._restore(checkpoints.load(path, self._run()))
        for self.epoch in range(len(self.history), self.max_epochs):
            self.history.append(self.fit_epoch())
            if path and self.fabric.is_global_zero:
                checkpoints.save(path, self._run(), self._state())
            self.fabric.barrier()
        return self.history

    def prepare_data(self, data: d2l.DataModule) -> None:
        """Make the loaders, on the device where the data can rest there."""
        if hasattr(data, "to"):
            data.to(self.device)
        loader, self.val_dataloader = data.train_dataloader(), data.val_dataloader()
        self._first_batch = next(iter(loader))
        self.train_dataloader = self.fabric.setup_dataloaders(loader)
        self.num_train_batches = len(self.train_dataloader)
        self.num_val_batches = len(self.val_dataloader or ())

    def prepare_model(self, model: d2l.Module) -> None:
        """Move the model to the device and make its optimizer."""
        model.trainer, self.model = self, model
        self.train_batch_idx = self.val_batch_idx = 0
        self._place(model)
        lazy = (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)
        if any(isinstance(p, lazy) for p in model.parameters()):
            with torch.no_grad():
                model(*self.fabric.to_device(self._first_batch)[:-1])
        optimizer = model.configure_optimizers()
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"{type(model).__name__}.configure_optimizers returned "
                f"{type(optimizer).__name__}; expected one torch.optim.Optimizer"
            )
        steps = self.max_epochs * self.num_train_batches
        self._scheduler = self.schedule and self.schedule(optimizer, steps)
        self._wrapped, self.optim = self.fabric.setup(model, optimizer)

    def fit_epoch(self) -> dict[str, float]:
        """One pass over the training data, and one over the validation data."""
        torch.manual_seed(self.seed * 10_007 + self.epoch)
        start, lr = time.perf_counter(), self.optim.param_groups[0]["lr"]
        train = self._train()
        val = self.evaluate(self.model, self.val_dataloader) if self.num_val_batches else {}
        row: dict[str, float] = {"epoch": self.epoch + 1}
        row |= {f"train_{key}": value for key, value in train.items()}
        row |= {f"val_{key}": value for key, value in val.items()}
        row |= {"lr": lr, "seconds": time.perf_counter() - start}
        if self.progress and self.fabric.is_global_zero and not sys.stderr.isatty():
            print(", ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
        return row

    def evaluate(self, model: d2l.Module, loader: DataLoader) -> dict[str, float]:
        """Average what `validation_step` reports over every example, once.

        Keys: the model's own, such as loss and accuracy.
        """
        self._place(model)
        rank, world = self.fabric.global_rank, self.fabric.world_size
        if world > 1:  # a DistributedSampler would repeat examples to fill up
            share = Subset(loader.dataset, range(rank, len(loader.dataset), world))
            loader = DataLoader(share, loader.batch_size, collate_fn=loader.collate_fn)
        model.eval()
        with _Report(model) as report, torch.no_grad():
            for batch in loader:
                batch = self.fabric.to_device(batch)
                with self.fabric.autocast():
                    model.validation_step(batch)
                report.counts.append(len(batch[-1]))
                self.val_batch_idx = getattr(self, "val_batch_idx", 0) + 1
        return report.averages(self.fabric)

    def _train(self) -> dict[str, float]:
        model, start = self._wrapped.train(), time.monotonic()
        rates: list[float] = []
        losses: list[Tensor] = []
        bar = tqdm(
            self.train_dataloader,
            desc=f"epoch {self.epoch + 1}/{self.max_epochs}",
            disable=not (self.progress and sys.stderr.isatty())
            or not self.fabric.is_global_zero,
        )
        with _Report(self.model) as report:
            for batch in bar:
                with self.fabric.autocast():
                    loss = model.training_step(batch)
                self.optim.zero_grad()
                self.fabric.backward(loss)
                if self.gradient_clip_val:
                    self.fabric.clip_gradients(
                        model, self.optim, max_norm=self.gradient_clip_val
                    )
                self.optim.step()
                losses.append(loss.detach())
                rates.append(self.optim.param_groups[0]["lr"])
                report.counts.append(len(batch[-1]))
                if self._scheduler:
                    self._scheduler.step()
                self.train_batch_idx += 1
                # Reading a loss waits for the device: once a second will do.
                if time.monotonic() - start > 1:
                    self._check(losses, rates)
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                    start = time.monotonic()
        self._check(losses, rates)
        return report.averages(self.fabric)

    def _check(self, losses: Sequence[Tensor], rates: Sequence[float]) -> None:
        finite = torch.stack(tuple(losses)).isfinite().tolist()
        if not all(finite):
            step = finite.index(False)
            kept = self.checkpoint and f"; {self.checkpoint} holds the last good epoch"
            raise FloatingPointError(
                f"the loss is {losses[step].item()} in epoch {self.epoch + 1}, step "
                f"{step + 1} of {self.num_train_batches}, at a learning rate of "
                f"{rates[step]:.3g}{kept or ''}. A lower rate or gradient_clip_val helps"
            )

    def _place(self, model: nn.Module) -> None:
        model.to(self.device)
        dims = {p.dim() for p in model.parameters()}
        if 4 in dims and 5 not in dims and self.device.type in ("cpu", "cuda"):
            model.to(memory_format=torch.channels_last)

    def _run(self) -> dict[str, Any]:
        return {
            "model": type(self.model).__name__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "max_epochs": self.max_epochs,
            "batches an epoch": self.num_train_batches,
            "seed": self.seed,
        }

    def _state(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optim}
        if self._scheduler:
            parts["scheduler"] = self._scheduler
        state = {key: part.state_dict() for key, part in parts.items()}
        return state | {"history": self.history}

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optim.load_state_dict(state["optimizer"])
        if self._scheduler:
            self._scheduler.load_state_dict(state["scheduler"])
        self.history = state["history"]
        self.train_batch_idx = len(self.history) * self.num_train_batches


class _Report:
    """Collect what a model reports through `d2l.Module.plot`, and average it.

    D2L's own `plot` draws, and waits for the device at every step.
    """

    def __init__(self, model: d2l.Module) -> None:
        self.model, self.counts = model, []
        self.values: dict[str, list[Tensor]] = defaultdict(list)

    def __enter__(self) -> "_Report":
        self.model.plot = self._keep
        return self

    def __exit__(self, *_: object) -> None:
        del self.model.plot

    def _keep(self, key: str, value: Tensor, train: bool) -> None:
        self.values[key].append(value.detach())

    def averages(self, fabric: Fabric) -> dict[str, float]:
        counts = torch.tensor(self.counts, dtype=torch.float64)
        averages = {}
        for key, values in self.values.items():
            total = torch.stack(values).cpu().double() @ counts
            both = torch.stack((total, counts.sum()))
            both = fabric.all_reduce(both, reduce_op="sum")
            averages[WORDS.get(key, key)] = (both[0] / both[1]).item()
        return averages


def _best_precision(device: torch.device) -> str:
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        bf16 = can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16")
        return "bf16-mixed" if bf16 else "32-true"
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return "bf16-mixed" if major >= 8 else "16-mixed"
    return "32-true"
