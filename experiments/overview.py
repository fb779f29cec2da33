"""What `python -m experiments` prints: what is recorded, and how long a run took."""

import importlib
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from d2l_dense import records


def lines(names: Iterable[str], device: str, folder: Path) -> list[str]:
    """A line an arm: seeds that are recorded on this type of device, and minutes."""
    table = [f"{'experiment':16}{'arm':20}{'seeds on ' + device:16}minutes a run"]
    for name in names:
        experiment = importlib.import_module(f"experiments.{name}")
        recorded = getattr(experiment, "RECORDS", (name,))
        for title, arm in product(recorded, experiment.ARMS):
            runs = records.load(title, arm, device, folder)
            seeds = ", ".join(str(run["seed"]) for run in runs) or "none"
            time = "unknown"
            if runs:
                time = f"{records.summarise(runs, 'seconds').mean / 60:.1f}"
            table.append(f"{title:16}{arm:20}{seeds:16}{time}")
    return table
