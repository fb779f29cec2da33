"""One run: train a network on Fashion-MNIST from one seed, and score it."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from d2l import torch as d2l

from d2l_dense import FashionMNIST, Trainer, one_cycle, records
from experiments.provenance import provenance


class Run(NamedTuple):
    """Which run it is, on which type of device, with which checkpoint and precision."""

    experiment: str
    arm: str
    seed: int
    device: str
    checkpoints: Path
    precision: str = "auto"

    def record(
        self,
        configuration: dict[str, Any],
        origin: dict[str, Any],
        history: list[dict[str, float]],
        **found: Any,
    ) -> records.Record:
        """What every record has, and what the run has found."""
        return {
            "experiment": self.experiment,
            "arm": self.arm,
            "seed": self.seed,
            "configuration": configuration,
            **origin,
            "seconds": sum(row["seconds"] for row in history),
            "history": history,
            **found,
        }


def train(
    run: Run, network: type[d2l.Classifier], configuration: dict[str, Any]
) -> records.Record:
    """Train as configured, or go on from the run's checkpoint; return the record.

    Args:
        configuration: arguments of the network ("model") and of `FashionMNIST`
            ("data"), "max_epochs", and whether there is a "schedule".
    """
    torch.manual_seed(run.seed)  # of the initial weights
    model = network(**configuration["model"])
    data = FashionMNIST(**configuration["data"])
    name = f"{run.experiment}-{run.arm}-{run.seed}-{run.device}.pt"
    trainer = Trainer(
        configuration["max_epochs"],
        schedule=one_cycle if configuration["schedule"] else None,
        seed=run.seed,
        accelerator=run.device,
        precision=run.precision,
        checkpoint=run.checkpoints / name,
    )
    origin = provenance(trainer.device, trainer.precision)
    history = trainer.fit(model, data)
    data.train.flip = False
    record = run.record(configuration, origin, history)
    loaders = {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
    }
    for split, loader in loaders.items():
        for key, value in trainer.evaluate(model, loader).items():
            record[f"{split}_{key}"] = value
    return record
