"""What test_trainer.py has two processes do: `torchrun worker.py FOLDER THREADS`.

Each writes what it saw to a file in the folder. The first forks before it joins the
other, for runs by themselves that are killed: so nothing has to be imported again.
"""

import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

import torch
from helpers import QUIET, Pictures, at, classifier, interrupt, run, without_seconds
from torch.utils.data import DataLoader, SubsetRandomSampler

from d2l_dense import Trainer

CHOSEN = [1, 4, 5, 8, 9]


class Noted(Pictures):
    """Pictures that note which of them were asked for."""

    def __init__(self, n=11, sampler=None):
        super().__init__(n)
        self.asked, self.sampler = [], sampler

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.X[index], self.y[index]

    def get_dataloader(self, train):
        options = {"shuffle": self.sampler is None, "sampler": self.sampler}
        return DataLoader(self, 2, **options) if train else None


def evaluate(n, sampler=None):
    """Average over n examples, and which of them this process saw."""
    data, model = Noted(n, sampler), classifier(norm=False)
    return Trainer(**QUIET).evaluate(model, data.train_dataloader()), data.asked


def order(seed=0, sampler=None):
    """Which examples this process trains on, in two epochs."""
    data = Noted(sampler=sampler)
    Trainer(2, seed=seed, **QUIET).fit(classifier(), data)
    return data.asked


def train_in_double(batch_size):
    """Weights after two epochs of one step, with nothing random in it."""
    model = classifier(dropout=0, norm=False).double()
    trainer = Trainer(2, **QUIET | {"precision": "64-true"})
    trainer.fit(model, Pictures(16, batch_size, dtype=torch.float64))
    return model.state_dict()


def kill(trainer):
    os.kill(os.getpid(), signal.SIGKILL)


def run_in_a_fork(checkpoint, threads, on_step=None, alarm=0.0):
    """Run, and return the exit code. A timer of seconds of work can end it at once."""
    if (child := os.fork()) == 0:
        signal.setitimer(signal.ITIMER_PROF, alarm)
        for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
            del os.environ[name]
        torch.set_num_threads(threads)
        run(checkpoint, on_step=on_step)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder, threads):
    rank, seen, draws = int(os.environ["RANK"]), {}, []
    if rank == 0:
        seen["killed"] = run_in_a_fork(folder / "killed.pt", threads, at(7, kill))
        moments = [random.uniform(0.02 * n, 0.02 * (n + 1)) for n in range(10)]
        often = folder / "killed often.pt"
        seen["often"] = [run_in_a_fork(often, threads, alarm=t) for t in moments]
        if not often.exists():  # on a slow machine none has ended an epoch
            run_in_a_fork(often, threads)
    chosen = SubsetRandomSampler(CHOSEN)
    seen["evaluated"] = {n: evaluate(n) for n in (11, 4, 1)}
    seen["evaluated"]["chosen"] = evaluate(11, chosen)
    seen["orders"] = order(0), order(1), order(0, chosen)
    seen["double"] = train_in_double(batch_size=8)
    run(max_epochs=1, on_step=lambda _: draws.append(torch.rand(()).item()))
    history, model = run()
    seen |= {"draws": draws, "history": without_seconds(history)}
    seen["state"] = {k: v.clone() for k, v in model.state_dict().items()}
    checkpoint = folder / str(rank) / "run.pt"  # as on two machines
    with suppress(KeyboardInterrupt):
        run(checkpoint, on_step=at(3, interrupt))
    seen["saved"] = checkpoint.exists()
    history, model = run(checkpoint, weights=2)
    seen |= {"resumed": without_seconds(history), "resumed state": model.state_dict()}
    torch.save(seen, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
