"""Stop a run whose figures are no numbers any more."""

import math
import time
from pathlib import Path

import torch
from torch import Tensor


class LossWatch:
    """Stop a run whose loss is not finite.

    Reading a loss waits for the device, so it looks once a second, and at the end.
    """

    def __init__(self, epoch: str, checkpoint: str | Path | None) -> None:
        self.epoch, self.checkpoint = epoch, checkpoint
        self.losses: list[Tensor] = []
        self.rates: list[float] = []
        self.looked = time.monotonic()

    def add(self, loss: Tensor, rate: float) -> bool:
        """Note the loss of a step and its learning rate; True if it looked."""
        self.losses.append(loss.detach())
        self.rates.append(rate)
        if time.monotonic() - self.looked < 1:
            return False
        self.check()
        self.looked = time.monotonic()
        return True

    def check(self) -> None:
        """Raise a FloatingPointError at the first loss that is not finite."""
        if not self.losses:
            raise ValueError("there is no batch to train on")
        finite = torch.stack(self.losses).isfinite().tolist()
        if all(finite):
            return
        step = finite.index(False)
        where = f"{self.epoch}, step {step + 1}"
        loss, rate = self.losses[step].item(), self.rates[step]
        raise _not_finite(f"the loss is {loss} in {where}", rate, self.checkpoint)


def check_row(row: dict[str, float], checkpoint: str | Path | None) -> None:
    """Raise a FloatingPointError if an epoch ends with a figure that is not finite."""
    for key, value in row.items():
        if not math.isfinite(value):
            what = f"{key} is {value} after epoch {row['epoch']}"
            raise _not_finite(what, row["lr"], checkpoint)


def _not_finite(
    what: str, rate: float, checkpoint: str | Path | None
) -> FloatingPointError:
    kept = ""
    if checkpoint and Path(checkpoint).expanduser().exists():
        kept = f"; {checkpoint} holds the last good epoch"
    return FloatingPointError(
        f"{what}, at a learning rate of {rate:.3g}{kept}. A lower rate or "
        "gradient_clip_val may help"
    )
