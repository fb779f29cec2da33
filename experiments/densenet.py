"""The chapter's model on Fashion-MNIST, trained by two recipes.

`d2l` is Dive into Deep Learning's: SGD at 0.01, no momentum, no augmentation.
`ours` adds Nesterov momentum, weight decay, one cycle of the learning rate and
mirrored images. Both see the same 55,000 images for 10 epochs at 96x96.
"""

from typing import Any

from d2l_dense import DenseNet, records
from experiments.training import Run, train

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


def execute(run: Run) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
    return train(run, DenseNet, ARMS[run.arm])
