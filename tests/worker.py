"""What test_trainer.py runs in processes of its own.

`worker.py killed CHECKPOINT STEP`: the run of `helpers.run`, until it kills itself.
`torchrun worker.py FOLDER`: every process writes what it saw to a file there.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from d2l import torch as d2l
from helpers import QUIET, Classifier, Pictures, run, without_seconds
from torch.utils.data import DataLoader, Dataset

from d2l_dense import Trainer


class Noted(Dataset):
    """Pictures that note which of them were asked for."""

    def __init__(self, data):
        self.data, self.asked = data, []

    def __len__(self):
        return len(self.data.y)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.data.X[index], self.data.y[index]


class Fixed(Classifier):
    """A classifier whose batch normalisation always uses its statistics."""

    def __init__(self):
        super().__init__(dropout=0)
        self.double()

    def train(self, mode=True):
        return super().train(False)


class NotedPictures(d2l.DataModule):
    def __init__(self, n=11, batch_size=2):
        super().__init__()
        self.save_hyperparameters()
        self.train = Noted(Pictures(n))

    def get_dataloader(self, train):
        return DataLoader(self.train, self.batch_size, shuffle=True) if train else None


def classifier(**options):
    """A classifier that has its weights already."""
    torch.manual_seed(1)
    model = Classifier(**options)
    model(Pictures().X)
    return model


def evaluate(n):
    """Average over n examples, and which of them this process saw."""
    data = Noted(Pictures(n))
    found = Trainer(1, **QUIET).evaluate(
        classifier(norm=False), DataLoader(data, batch_size=2)
    )
    return found, data.asked


def train_in_double(batch_size, max_epochs=2):
    """Train in float64, without shares of noise; return the weights."""
    torch.manual_seed(1)
    options = QUIET | {"precision": "64-true"}
    trainer, model = Trainer(max_epochs, seed=4, **options), Fixed()
    trainer.fit(model, Pictures(n=16, batch_size=batch_size, dtype=torch.float64))
    return model.state_dict()


def stop_in_epoch_2(trainer):
    if trainer.train_batch_idx == trainer.num_train_batches + 1:
        raise InterruptedError


def order(seed):
    """Which examples this process trains on, in two epochs."""
    data, model = NotedPictures(), classifier()
    Trainer(2, seed=seed, **QUIET).fit(model, data)
    return data.train.asked


def kill_at(step):
    def on_step(trainer):
        if trainer.train_batch_idx == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_step


def main_killed(checkpoint, step):
    run(checkpoint, on_step=kill_at(int(step)))


def main(folder):
    seen = {"evaluations": {n: evaluate(n) for n in (11, 4, 1)}}

    history, model = run(Path(folder, "whole.pt"))
    loader = Pictures().val_dataloader()
    seen["trained"] = {k: v.clone() for k, v in model.state_dict().items()}
    seen["history"] = without_seconds(history)
    seen["evaluated"] = Trainer(1, **QUIET).evaluate(model, loader)
    seen["agreed"] = model.state_dict()

    seen["double"] = train_in_double(batch_size=4)

    checkpoint = Path(folder, "stopped.pt")
    try:
        run(checkpoint, on_step=stop_in_epoch_2)
    except InterruptedError:
        seen["stopped"] = True
    history, model = run(checkpoint, weights=2)
    seen["resumed"] = model.state_dict()
    seen["resumed history"] = without_seconds(history)

    seen["orders"] = {seed: order(seed) for seed in (0, 1)}
    torch.save(seen, Path(folder, f"rank{os.environ['RANK']}.pt"))


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        main_killed(*sys.argv[2:])
    else:
        main(sys.argv[1])
        torch.distributed.destroy_process_group()
