"""D2L's trainer interface on Lightning Fabric's engine."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from d2l import torch as d2l
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from d2l_dense import engine
from d2l_dense.allocator import keep_freed_memory
from d2l_dense.checkpoint import Checkpoint, identity
from d2l_dense.loss_watch import LossWatch, check_row
from contextlib import nullcontext
from d2l_dense.processes import agree, share, split


class Trainer(d2l.HyperParameters):
    """Train a `d2l.Module` on a `d2l.DataModule`, on the best device there is.

    Args:
        max_epochs: passes over the training data.
        schedule: called with the optimizer and the number of all steps, returns
            a scheduler that is stepped after each batch; see `one_cycle`.
        gradient_clip_val: largest norm of the gradient; 0 does not clip.
        seed: of order, augmentation and dropout. Each epoch has its own, so a
            resumed run equals an unbroken one, on a CPU (same threads) bit for bit.
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
    epoch, filled up if uneven; `batch_size` and BatchNorm's statistics are then
    a process's own, and the first one's statistics are kept.

    Chapter: "Training".
    """

    def __init__(
        self,
        max_epochs: int = 10,
        *,
        schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = None,
        gradient_clip_val: float = 0,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        accelerator: str = "auto",
        precision: str = "auto",
        progress: bool = True,
    ) -> None:
        engine.check_arguments(
            max_epochs, schedule, gradient_clip_val, seed, checkpoint, progress
        )
        seed, gradient_clip_val = int(seed), float(gradient_clip_val)  # NumPy's too
        self.save_hyperparameters()
        self.fabric, self.precision = engine.make_fabric(accelerator, precision)
        self._speaks = progress and self.fabric.is_global_zero
        self.device = self.fabric.device

    def __getstate__(self) -> dict[str, Any]:
        """The arguments: a model is saved without its data, or a schedule's code."""
        kept = {k: v for k, v in self.hparams.items() if k != "schedule"}
        return kept | {"hparams": kept}

    def fit(self, model: d2l.Module, data: d2l.DataModule) -> list[dict[str, float]]:
        """Train, and return the history: one dict an epoch.

        Keys: epoch, seconds, lr, and train_ and val_ averages over every example
        of what the model reports through `plot` (loss, accuracy). The training
        averages are taken on the way, while the weights change. On a CPU the process
        keeps from here on what it frees (`allocator`).

        Raises:
            FloatingPointError: if the loss is not finite; names epoch, step, rate.
            TypeError: if the two are something else, the model does not configure one
                torch optimizer, or the schedule returns no scheduler.
            OSError: if the checkpoint cannot be written.
            MemoryError: if a step does not fit; it says what would.
        """
        engine.check_pair("fit", model, data, d2l.DataModule, "d2l.DataModule")
        if self.device.type == "cpu":
            keep_freed_memory()
        self.prepare_data(data)
        self.prepare_model(model)
        self.history = self._checkpoint.restore() if self._checkpoint else []
        self.train_batch_idx = len(self.history) * self.num_train_batches
        for epoch in range(len(self.history), self.max_epochs):
            self.epoch = epoch
            self.history.append(row := self.fit_epoch())
            check_row(row, self.checkpoint)
            if self._checkpoint and self.fabric.is_global_zero:
                self._checkpoint.save(self.history)
            if self._speaks and not sys.stderr.isatty():
                print(", ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
            self.fabric.barrier()
        return self.history

    def prepare_data(self, data: d2l.DataModule) -> None:
        """Make the loaders, on the device if the data can rest there."""
        self.data = data
        if hasattr(data, "to"):
            data.to(self.device)
        self.val_dataloader = data.val_dataloader()
        self.train_dataloader = split(data.train_dataloader(), self.fabric)
        self.num_train_batches = len(self.train_dataloader)
        self.num_val_batches = len(self.val_dataloader or ())

    def prepare_model(self, model: d2l.Module) -> None:
        """Move the model to the device and make its optimizer."""
        model.trainer, self.model = self, model
        engine.materialise(model, self.train_dataloader)
        engine.place(model, self.device)
        optimizer = engine.make_optimizer(model)
        steps = self.max_epochs * self.num_train_batches
        self._scheduler = engine.make_scheduler(self.schedule, optimizer, steps)
        run = identity(model, self.data, optimizer) | {"steps": steps}
        run |= {k: getattr(self, k) for k in ("seed", "precision", "gradient_clip_val")}
        run |= {"schedule": type(self._scheduler).__name__}
        parts = {"model": model, "optimizer": optimizer, "schedule": self._scheduler}
        parts["scaler"] = getattr(self.fabric.strategy.precision, "scaler", None)
        parts, path = {k: v for k, v in parts.items() if v}, self.checkpoint
        path = path and Path(path).expanduser()
        self._checkpoint = Checkpoint(path, run, **parts) if path else None
        self._wrapped, self.optim = self.fabric.setup(model, optimizer)

    def prepare_batch(self, batch: Sequence[Tensor]) -> Sequence[Tensor]:
        """Move a batch to the device, in the precision of the weights."""
        batch = self.fabric.to_device(batch)
        return self.fabric.strategy.precision.convert_input(batch)

    def fit_epoch(self) -> dict[str, float]:
        """One pass over the training data, and one over the validation data."""
        torch.manual_seed(self.seed * 10_007 + self.epoch)
        start, lr = time.perf_counter(), self.optim.param_groups[0]["lr"]
        row: dict[str, float] = {"epoch": self.epoch + 1}
        row |= {f"train_{key}": value for key, value in self._train().items()}
        if self.num_val_batches:
            val = self.evaluate(self.model, self.val_dataloader)
            row |= {f"val_{key}": value for key, value in val.items()}
        row |= {"lr": lr, "seconds": time.perf_counter() - start}
        return row

    def evaluate(self, model: d2l.Module, loader: DataLoader) -> dict[str, float]:
        """Average what `validation_step` reports over every example; by its names."""
        words = "DataLoader, such as data.val_dataloader()"
        engine.check_pair("evaluate", model, loader, Iterable, words)
        engine.place(model, self.device)
        agree(model.eval(), self.fabric)
        with engine.Report(model) as report, torch.no_grad():
            for batch in share(loader, self.fabric):
                batch = self.prepare_batch(batch)
                with self.fabric.autocast():
                    model.validation_step(batch)
                report.counts.append(len(batch[-1]))
        return report.averages(self.fabric)

    def _train(self) -> dict[str, float]:
        model = self._wrapped.train()
        watch = LossWatch(f"epoch {self.epoch + 1}", self.checkpoint)
        shown = self._speaks and sys.stderr.isatty()
        bar = tqdm(self.train_dataloader, watch.epoch, disable=not shown)
        with engine.Report(self.model) as report:
            for batch in bar:
                batch = self.prepare_batch(batch)
                with nullcontext():
                    loss = self._step(model, batch)
                if watch.add(loss, self.optim.param_groups[0]["lr"]):
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                if self._scheduler:
                    self._scheduler.step()
                report.counts.append(len(batch[-1]))
                self.train_batch_idx += 1
        watch.check()
        return report.averages(self.fabric)

    def _step(self, model: d2l.Module, batch: Sequence[Tensor]) -> Tensor:
        self.optim.zero_grad()  # before the forward pass, whose peak they would add to
        with self.fabric.autocast():
            loss = model.training_step(batch)
        self.fabric.backward(loss)
        if self.gradient_clip_val:
            limits = {"max_norm": self.gradient_clip_val, "error_if_nonfinite": False}
            self.fabric.clip_gradients(model, self.optim, **limits)  # LossWatch tells
        self.optim.step()
        return loss
