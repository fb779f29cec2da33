"""Recorded runs: one JSON file an experiment, arm, seed and type of device.

`record.schema.json` beside this module says what a record holds; every record
is checked against it when it is written and when it is read. Chapter: "Training".
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from scipy import stats

from d2l_dense.checkpoint import replace_file

Record = dict[str, Any]
_INSTALLED = Path(__file__).with_name("results")
# Inside an installed package; in a clone, beside it.
RESULTS = (
    _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "results"
)
SCHEMA = json.loads(Path(__file__).with_name("record.schema.json").read_text())


def path(
    experiment: str, arm: str, seed: int, device: str, folder: str | Path = RESULTS
) -> Path:
    """Where a run's record is, or will be; `device` is "cpu", "cuda" or "mps"."""
    return Path(folder) / f"{experiment}-{arm}-{seed}-{device}.json"


def write(record: Record, folder: str | Path = RESULTS) -> Path:
    """Check a record and put it in its place in one step; return the place.

    Raises:
        ValueError: if it does not fit the schema, or a number is not finite.
        OSError: if the folder cannot be written.
    """
    place = _place(record, Path(folder))
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    replace_file(place, text.encode())
    return place


def load(
    experiment: str, arm: str = "*", device: str = "*", folder: str | Path = RESULTS
) -> list[Record]:
    """Return the records of an experiment, arm and type of device, by arm and seed.

    Raises:
        ValueError: if a file is not a record; names the file and the reason.
    """
    found, folder = [], Path(folder)
    for place in folder.glob(f"{experiment}-{arm}-*-{device}.json"):
        try:
            text = place.read_text(encoding="utf-8")
            record = json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            raise ValueError(
                f"{place} is not JSON ({error}). Restore it, or delete it and run "
                "its experiment again; python -m experiments lists them."
            ) from None
        if place != (right := _place(record, folder, place)):
            raise ValueError(f"{place} holds the record of {right.name}. Rename it.")
        found.append(record)
    return sorted(found, key=lambda record: (record["arm"], record["seed"]))


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation and 95 % interval of a figure over seeds.

    With one run there is no spread: `std` and `interval` are then None.
    """

    mean: float
    std: float | None
    interval: tuple[float, float] | None
    n: int

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is above or below 0; else 0: undecided."""
        low, high = self.interval or (0, 0)
        return (low > 0) - (high < 0)

    def __format__(self, spec: str) -> str:
        if self.std is None:
            return f"{self.mean:{spec}} (one run)"
        return f"{self.mean:{spec}} ± {self.std:{spec}} (n = {self.n})"


def summarise(records: Iterable[Record], key: str) -> Summary:
    """Summarise one figure over runs; the interval is Student's t.

    Raises:
        ValueError: if there are no runs, one lacks the figure, or they are of more
            than one type of device.
    """
    if not (records := list(records)):
        raise ValueError(f"no {key} in no records")
    _check(records, key)
    return _summary([record[key] for record in records])


def difference(first: Iterable[Record], second: Iterable[Record], key: str) -> Summary:
    """Summarise first minus second, in pairs of one seed; `n` counts the pairs.

    Raises:
        ValueError: as `summarise`, or if the two have no seed in common.
    """
    first, second = list(first), list(second)
    for side in (first, second):
        _check(side, key)
    _check_device([*first, *second])
    values = {record["seed"]: record[key] for record in second}
    pairs = [(r[key], values[r["seed"]]) for r in first if r["seed"] in values]
    if not pairs:
        raise ValueError(f"no {key} to compare: the two have no seed in common")
    return _summary([a - b for a, b in pairs])


def _check(records: Sequence[Record], key: str) -> None:
    """Refuse records that lack the figure, are of several arms, or repeat a seed."""
    missing = [f"seed {r['seed']} of {r.get('arm')}" for r in records if key not in r]
    if missing:
        raise ValueError(f"no {key} in {', '.join(missing)}")
    arms = {f"{r['experiment']} {r['arm']}" for r in records if "arm" in r}
    if len(arms) > 1:
        raise ValueError(
            f"records of {', '.join(sorted(arms))}: expected those of one arm; name it "
            "in records.load"
        )
    _check_device(records)
    seeds = [r["seed"] for r in records]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"records of the seeds {seeds}: expected each seed once")


def _check_device(records: Sequence[Record]) -> None:
    devices = {r["device"]["type"] for r in records if "device" in r}
    if len(devices) > 1:
        raise ValueError(
            f"records of {', '.join(sorted(devices))}: expected those of one device; "
            "name it in records.load"
        )


def _summary(figures: Sequence[float]) -> Summary:
    values, n = np.array(figures, dtype=float), len(figures)
    mean = float(values.mean())
    if n == 1:
        return Summary(mean, None, None, n)
    std = float(values.std(ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * std / n**0.5
    return Summary(mean, std, (mean - half, mean + half), n)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _place(record: Record, folder: Path, found: Path | None = None) -> Path:
    """Check a record against the schema; return where it belongs."""
    draft = jsonschema.Draft202012Validator
    validator = draft(SCHEMA, format_checker=draft.FORMAT_CHECKER)
    for error in validator.iter_errors(record):
        where = found or "the record"
        raise ValueError(
            f"{where} does not fit the schema: {error.json_path}: {error.message}"
        )
    device = record["device"]["type"]
    return path(record["experiment"], record["arm"], record["seed"], device, folder)
