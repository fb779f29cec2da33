"""The chapter's model on Fashion-MNIST, trained by two recipes.

`d2l` is Dive into Deep Learning's: SGD at 0.01, no momentum, no augmentation.
`ours` adds Nesterov momentum, weight decay, one cycle of the learning rate and
mirrored images. Both see the same 55,000 images for 10 epochs at 96x96.
"""

from pathlib import Path
from typing import Any

import torch

from d2l_dense import DenseNet, FashionMNIST, Trainer, one_cycle, records
from experiments.provenance import provenance

ARMS: dict[str, dict[str, Any]] = {
    "ours": {
        "model": {"lr": 0.15, "momentum": 0.9, "weight_decay": 5e-4},
        "data": {"batch_size": 128, "resize": [96, 96], "flip": True},
        "max_epochs": 10,
        "schedule": "one_cycle",
    },
    "d2l": {
        "model": {"lr": 0.01},
        "data": {"batch_size": 128, "resize": [96, 96], "flip": False},
        "max_epochs": 10,
        "schedule": None,
    },
}


def run(arm: str, seed: int, device: str, checkpoints: Path) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
    configuration = ARMS[arm]
    torch.manual_seed(seed)  # of the initial weights
    model = DenseNet(**configuration["model"])
    data = FashionMNIST(**configuration["data"])
    trainer = Trainer(
        configuration["max_epochs"],
        schedule=one_cycle if configuration["schedule"] else None,
        seed=seed,
        accelerator=device,
        checkpoint=checkpoints / f"densenet-{arm}-{seed}-{device}.pt",
    )
    origin = provenance(trainer.device, trainer.precision)
    history = trainer.fit(model, data)
    data.train.flip = False
    record = {
        "experiment": "densenet",
        "arm": arm,
        "seed": seed,
        "configuration": configuration,
        **origin,
        "seconds": sum(row["seconds"] for row in history),
        "history": history,
    }
    loaders = {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
    }
    for split, loader in loaders.items():
        for key, value in trainer.evaluate(model, loader).items():
            record[f"{split}_{key}"] = value
    return record
