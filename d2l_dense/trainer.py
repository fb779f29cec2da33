"""D2L's trainer on Lightning Fabric: any device, any precision, many processes."""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from pathlib import Path

import torch
from d2l import torch as d2l
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, DistributedSampler
from tqdm import tqdm

from d2l_dense.checkpoint import identity, load, save
from d2l_dense.checks import choice, count


class Trainer(d2l.HyperParameters):
    """Train a `d2l.Module` on a `d2l.DataModule`; under torchrun in many processes.

    Args:
        schedule: (optimizer, number of steps) -> scheduler, such as `one_cycle`.
        gradient_clip_val: largest norm of the gradient; 0 does not clip.
        seed: of the images' order, flips and dropout; not of the initial weights.
        checkpoint: a file, written after every epoch, from which `fit` goes on.
        accelerator: "auto", "cpu", "cuda" or "mps".
        precision: "auto" (see `best_precision`) or one of Lightning Fabric's names.
        progress: a bar in a terminal, elsewhere a line an epoch; False is quiet.
    Chapter: "Training".
    """

    def __init__(
        self,
        max_epochs: int = 10,
        *,
        schedule: Callable | None = None,
        gradient_clip_val: float = 0,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        accelerator: str = "auto",
        precision: str = "auto",
        progress: bool = True,
    ) -> None:
        checkpoint = checkpoint and Path(checkpoint).expanduser()
        max_epochs, seed = count("max_epochs", max_epochs), count("seed", seed, 0)
        if not gradient_clip_val >= 0:  # not a number, too
            raise ValueError(f"{gradient_clip_val=}: expected 0 (no clipping) or more")
        self.save_hyperparameters()
        kinds = {"cuda": torch.cuda, "mps": torch.backends.mps, "cpu": torch.cpu}
        here = [name for name, kind in kinds.items() if kind.is_available()]
        if choice("accelerator", accelerator, ["auto", *here]) == "auto":
            accelerator = here[0]
        if precision == "auto":
            precision = best_precision(torch.device(accelerator))
        how = {"precision": precision}
        if precision in ("16-mixed", "bf16-mixed"):  # by its name Fabric would log it
            how = {"plugins": MixedPrecision(precision, accelerator)}
        local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun sets both
        how["num_nodes"] = int(os.environ.get("WORLD_SIZE", local)) // local
        self.fabric = Fabric(accelerator=accelerator, devices=local, **how)
        self.fabric.launch()
        self.device = self.fabric.device
        self.precision = self.fabric.strategy.precision.precision
        self._speaks = progress and self.fabric.is_global_zero

    def __getstate__(self) -> dict:
        kept = self.hparams | {"schedule": None}  # a model is saved without its data
        return kept | {"hparams": kept}

    def fit(self, model: d2l.Module, data: d2l.DataModule) -> list[dict[str, float]]:
        """Train; return a dict an epoch: epoch, lr, seconds, averages over examples."""
        self.prepare_data(data)
        self.prepare_model(model)
        while len(self.history) < self.max_epochs:
            self.epoch = len(self.history)
            self.history.append(row := self.fit_epoch())
            if self.checkpoint and self.fabric.is_global_zero:
                save(self.checkpoint, self._run, self.history, self._parts)
            if self._speaks and not sys.stderr.isatty():
                print(", ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
        return self.history

    def prepare_data(self, data: d2l.DataModule) -> None:
        """Make the loaders, on the device if the data can rest there."""
        self.data = data
        if hasattr(data, "to"):
            data.to(self.device)
        self.train_dataloader = data.train_dataloader()
        self.val_dataloader = data.val_dataloader()
        num_batches = len(self.shard(self.train_dataloader, train=True))
        self.num_train_batches = count("num_train_batches", num_batches)

    def prepare_model(self, model: d2l.Module) -> None:
        """Move the model to the device, make its optimizer, go on from a checkpoint."""
        model.trainer, self.model, self.history = self, model, []
        if any(nn.parameter.is_lazy(p) for p in model.parameters()):
            X = self.fabric.to_device(next(iter(self.train_dataloader))[:-1])
            with torch.no_grad():  # lazy layers take their shapes from a batch
                model.to(self.device).eval()(*X)
        to_device(model, self.device)
        optimizer = model.configure_optimizers()
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"configure_optimizers: {optimizer!r} is not torch.optim's")
        scaler = self.fabric.strategy.precision  # which in fp16 scales the loss
        self._parts = {"model": model, "optimizer": optimizer, "scaler": scaler}
        if self.schedule:
            num_steps = self.max_epochs * self.num_train_batches
            scheduler = self._parts["schedule"] = self.schedule(optimizer, num_steps)
            # A hook of the optimizer, since in fp16 it leaves out some steps.
            optimizer.register_step_post_hook(lambda *_: scheduler.step())
        self._wrapped, self.optim = self.fabric.setup(model, optimizer)
        if self.checkpoint:
            self._run = identity(self, data=self.data, **self._parts)
            found = self.fabric.is_global_zero and load(self.checkpoint, self._run)
            if found := self.fabric.broadcast(found):  # others may have no such file
                self.history = found["history"]
                name = f"to go on from {self.checkpoint}, max_epochs"
                count(name, self.max_epochs, minimum=len(self.history))
                for name, part in self._parts.items():
                    part.load_state_dict(found["state"][name])
        self.train_batch_idx = len(self.history) * self.num_train_batches

    def fit_epoch(self) -> dict[str, float]:
        """One pass over the training data, and one over the validation data."""
        start, rank = time.perf_counter(), self.fabric.global_rank
        # Each process has a seed of its own, for its own dropout and augmentation.
        torch.manual_seed(self.seed * 10_007 + self.epoch + rank * 1_000_000_007)
        row = {"epoch": self.epoch + 1, "lr": self.optim.param_groups[0]["lr"]}
        loader = self.shard(self.train_dataloader, train=True)
        if isinstance(loader.sampler, DistributedSampler):  # the data's own
            loader.sampler.set_epoch(self.epoch)
        self._wrapped.train()
        # None: only in a terminal.
        bar = tqdm(loader, f"epoch {self.epoch + 1}", disable=not self._speaks or None)
        train = self.average(self.model, self.train_step, bar)
        row |= {f"train_{key}": value for key, value in train.items()}
        if self.val_dataloader is not None:
            val = self.evaluate(self.model, self.val_dataloader)
            row |= {f"val_{key}": value for key, value in val.items()}
        self.check_finite(row)
        return row | {"seconds": time.perf_counter() - start}

    def train_step(self, batch: Sequence[Tensor]) -> None:
        """Forward pass, backward pass and the optimizer's step."""
        self.lr = self.optim.param_groups[0]["lr"]
        try:
            self.optim.zero_grad()  # before the forward pass, to whose peak they add
            with self.fabric.autocast():
                loss = self._wrapped.training_step(batch)
            self.fabric.backward(loss)
            if (limit := self.gradient_clip_val) > 0:
                options = {"max_norm": limit, "error_if_nonfinite": False}
                self.fabric.clip_gradients(self._wrapped, self.optim, **options)
            self.optim.step()
        except RuntimeError as error:
            if "out of memory" not in str(error) and "can't allocate" not in str(error):
                raise
            text = f"out of memory with a batch of shape {tuple(batch[0].shape)}"
            raise MemoryError(f"{text}: reduce it or use memory='shared'") from error
        self.train_batch_idx += 1
        if self.train_batch_idx % self.num_train_batches % 50 == 0:  # seldom: it waits
            self.check_finite({"loss": loss.item()})

    def check_finite(self, row: dict[str, float]) -> None:
        """Raise a FloatingPointError if a loss, or another figure, is not finite."""
        step = self.train_batch_idx - self.epoch * self.num_train_batches
        where = f"epoch {self.epoch + 1}, step {step}, at the learning rate {self.lr:g}"
        for name, value in row.items():
            if not isfinite(value):
                advice = "lower it or set gradient_clip_val"
                raise FloatingPointError(f"{name} is {value} in {where}: {advice}")

    def evaluate(self, model: d2l.Module, loader: DataLoader) -> dict[str, float]:
        """Average what `validation_step` reports over every example, by its names."""
        to_device(model, self.device)
        if self.fabric.world_size > 1:  # BatchNorm's averages differ: take the first's
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        model.eval()
        with torch.no_grad(), self.fabric.autocast():
            return self.average(model, model.validation_step, self.shard(loader))

    def shard(self, loader: DataLoader, train: bool = False) -> DataLoader:
        """Return a loader of this process's share; to train, each has as many."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        if world == 1 or isinstance(loader.sampler, DistributedSampler):
            return loader
        ids = self.fabric.broadcast(list(loader.sampler))  # the first process's order
        own = ids[rank::world] or ids  # if it is none, all: the same average
        if train:
            own = [ids[i] for i in DistributedSampler(ids, world, rank, shuffle=False)]
        names = "batch_size", "num_workers", "collate_fn", "drop_last", "pin_memory"
        options = {name: getattr(loader, name) for name in names}
        return DataLoader(loader.dataset, sampler=own, **options)

    def average(self, model: d2l.Module, step: Callable, loader: Iterable) -> dict:
        """Take a step with every batch; average what it plots over all examples."""
        sizes, values = [], defaultdict(list)
        model.plot = lambda key, value, train: values[key].append(value.detach())
        try:
            for batch in loader:
                sizes.append(len(batch[-1]))
                batch = self.fabric.to_device(batch)
                step(self.fabric.strategy.precision.convert_input(batch))
        finally:
            del model.plot
        sizes = torch.tensor(sizes, dtype=torch.float64)
        sums = [torch.stack(v).cpu().double() @ sizes for v in values.values()]
        sums = torch.stack([*sums, sizes.sum()])
        if self.fabric.world_size > 1:  # through the device: Apple's has no float64
            sums = self.fabric.all_reduce(sums, reduce_op="sum")
        names = ["accuracy" if key == "acc" else key for key in values]
        return dict(zip(names, (sums[:-1] / sums[-1]).tolist(), strict=True))


def best_precision(device: torch.device) -> str:
    """Return bf16 where the hardware multiplies it, on older CUDA fp16, else fp32."""
    if device.type == "cuda":  # torch says that an older GPU can bf16; it emulates it
        new = torch.cuda.get_device_capability(device) >= (8, 0)
        return "bf16-mixed" if new else "16-mixed"
    has = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    bf16 = any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if bf16 else "32-true"


def to_device(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, in channels_last where convolutions gain by it."""
    model.to(device)
    dims = {p.dim() for p in model.parameters()}
    if 4 in dims and 5 not in dims and device.type in ("cpu", "cuda"):
        model.to(memory_format=torch.channels_last)


def one_cycle(optimizer: torch.optim.Optimizer, num_steps: int) -> LRScheduler:
    """Warm up to the optimizer's rate, then anneal: Smith and Topin (2018)."""
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=num_steps, cycle_momentum=False)
