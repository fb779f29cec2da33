"""Recorded runs, what pages say of them, and the network that one of them trained."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from jsonschema import Draft202012Validator as Validator
from scipy import stats

from d2l_dense.densenet import DenseNet
from d2l_dense.files import replace_file

Record = dict[str, Any]

_HERE = Path(__file__).parent
RESULTS = (_HERE if (_HERE / "results").is_dir() else _HERE.parent) / "results"
SCHEMA = json.loads((_HERE / "record.schema.json").read_text("utf-8"))
VALIDATOR = Validator(SCHEMA, format_checker=Validator.FORMAT_CHECKER)
WEIGHTS = RESULTS / "densenet.safetensors"
WEIGHTS_SHA_256 = "d7509446ac220304d7d8786d809df704a821fb99fdabdf36cedef7682bb5334c"
PRECISIONS = {"32-true": "fp32", "bf16-mixed": "bf16", "16-mixed": "fp16"}
DEVICES = ("cpu", "cuda", "mps")


def path(
    experiment: str, arm: str, seed: int, device: str, folder: str | Path = RESULTS
) -> Path:
    """Where the record of a run on a type of device is, or will be."""
    return Path(folder) / f"{experiment}-{arm}-{seed}-{device}.json"


def write(record: Record, folder: str | Path = RESULTS) -> Path:
    """Check a record, write it in one step and return its path."""
    place = _checked_path(record, folder)
    record = {k: v for k, v in json.loads(json.dumps(record)).items() if k != "sha256"}
    content = record | {"sha256": _sha256(record)}
    replace_file(place, f"{json.dumps(content, indent=1)}\n".encode())
    return place


def load(
    experiment: str, arm: str = "*", device: str = "*", folder: str | Path = RESULTS
) -> list[Record]:
    """Return the records of an experiment, arm and type of device, by arm and seed."""
    found = []
    for file in Path(folder).glob(f"{experiment}-{arm}-*-{device}.json"):
        try:
            record = json.loads(file.read_text("utf-8"))
            if (place := _checked_path(record, folder)) != file:
                raise ValueError(f"this is the record of {place.name}; rename it")
            if record.pop("sha256", None) != _sha256(record):
                raise ValueError("it was changed since it was written; restore it")
            found.append(record)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    return sorted(found, key=lambda record: (record["arm"], record["seed"]))


def _sha256(record: Record) -> str:
    """Hash of what a record says, however its file is laid out."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _checked_path(record: Record, folder: str | Path) -> Path:
    """Check a record; return its path."""
    for error in VALIDATOR.iter_errors(record):
        raise ValueError(f"no record: {error.json_path}: {error.message}")
    json.dumps(record, allow_nan=False)  # refuses what is not finite
    run = [record[key] for key in ("experiment", "arm", "seed")]
    return path(*run, record["device"]["type"], folder)


@dataclass(frozen=True)
class Summary:
    """Figures of runs, or differences of pairs; of one alone there is only the mean."""

    values: Sequence[float]
    mean: float
    std: float | None = None
    interval: tuple[float, float] | None = None  # at 95 %
    p_value: float | None = None  # of the hypothesis that the true mean is zero

    @classmethod
    def of(cls, values: Sequence[float], overlap: float = 0.0) -> "Summary":
        """Use Student's t; `overlap`: a fold's test rows over its training rows."""
        n, mean = len(values), float(np.mean(values))
        if n == 1:
            return cls(values, mean)
        std = float(np.std(values, ddof=1))
        # Folds share training rows, so the error is larger: Nadeau and Bengio (2003).
        error = std * (1 / n + overlap) ** 0.5
        half = float(stats.t.ppf(0.975, n - 1)) * error
        p_value = 2 * stats.t.sf(abs(mean) / error, n - 1) if error else mean == 0
        return cls(values, mean, std, (mean - half, mean + half), float(p_value))

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is above or below zero; else 0: undecided."""
        low, high = self.interval or (0, 0)
        return (low > 0) - (high < 0)

    def __format__(self, spec: str) -> str:
        if self.std is None:
            return f"{self.mean:{spec}} (one run)"
        return f"{self.mean:{spec}} ± {self.std:{spec}} (n = {len(self.values)})"


def summarise(runs: Sequence[Record], key: str) -> Summary:
    """Summarise a figure over the seeds of one arm."""
    _check_alike(runs)
    return Summary.of([run[key] for run in runs])


def difference(first: Sequence[Record], second: Sequence[Record], key: str) -> Summary:
    """Summarise first minus second, paired by seed or fold, under like conditions."""
    _check_alike(first, second)
    ours, theirs = _by_pair(first, key), _by_pair(second, key)
    gaps = [ours[pair] - theirs[pair] for pair in ours if pair in theirs]
    if not gaps:
        raise ValueError("not comparable: no seed in common")
    num_folds = first[0]["configuration"].get("data", {}).get("num_folds", math.inf)
    return Summary.of(gaps, overlap=1 / (num_folds - 1))


def _by_pair(runs: Sequence[Record], key: str) -> dict[Any, float]:
    """A figure by seed; or by fold, where there are folds, averaged over the seeds.

    Where each seed divides the rows anew ("repeated"), each has folds of its own.
    """
    one_division = not runs[0]["configuration"].get("repeated")
    figures = defaultdict(list)
    for run in runs:
        for i, fold in enumerate(run.get("folds", [run])):
            seed = "all" if "folds" in run and one_division else run["seed"]
            figures[seed, i].append(fold[key])
    return {pair: float(np.mean(values)) for pair, values in figures.items()}


def _check_alike(*arms: Sequence[Record]) -> None:
    """Refuse unlike runs of one arm, and arms that ran under unlike conditions."""
    for runs in arms:
        names = {f"{r['experiment']} {r['arm']} {r['configuration']}" for r in runs}
        if len(names) != 1 or len({run["seed"] for run in runs}) < len(runs):
            raise ValueError(f"not one arm with one run a seed: {sorted(names)}")
    found = list(dict.fromkeys(conditions(run) for runs in arms for run in runs))
    if len(found) > 1:
        raise ValueError(f"not comparable: {' – '.join(found)}")


def conditions(run: Record) -> str:
    """What compared runs must share, such as "cpu, fp32, 64×64, 6 epochs"."""
    device, configuration = run["device"], run["configuration"]
    words = [device["type"], PRECISIONS.get(device["precision"], device["precision"])]
    data = configuration.get("data", {})
    if (processes := device.get("processes", 1)) > 1:  # each takes batches of its own
        words.append(f"{processes} processes")
    if "resize" in data:
        size, epochs = data["resize"], configuration["max_epochs"]
        words.append(f"{size[0]}×{size[1]}, {epochs} epochs")
    if "folds" in run:
        num_folds = data["num_folds"]
        sales = f" of {len(run['errors']):,} sales" if "errors" in run else ""
        words.append(f"{len(run['folds']) // num_folds} × {num_folds} folds{sales}")
    return ", ".join(words)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's (1979) method."""
    scaled = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    ranks = np.argsort(np.argsort(p_values))
    return np.maximum.accumulate(scaled).clip(max=1)[ranks].tolist()


def verdict(gap: Summary, first: str, second: str, better: int = 1) -> str:
    """Say what first minus second means; `better` is the sign of what is good."""
    if gap.interval is None:
        return f"{gap.mean:+.4f} from one pair: a first estimate, without an interval"
    low, high = gap.interval
    found = f"undecided, differences of up to {max(-low, high):.4f} remain possible"
    if gap.sign:
        found = f"{first if gap.sign == better else second} is ahead"
    # More digits where four would show an end as zero.
    digits = next((d for d in (4, 5, 6) if round(low, d) and round(high, d)), 4)
    ends = f"{low:+.{digits}f} to {high:+.{digits}f}"
    return f"{gap.mean:+.4f} (95 % interval {ends}, n = {len(gap.values)}): {found}"


def compare(first: str, second: str, arms: dict, key: str = "test_accuracy") -> dict:
    """Return first minus second by type of device; `arms`: name: (experiment, arm)."""
    runs = {d: [load(*arms[name], d) for name in (first, second)] for d in DEVICES}
    return {d: difference(*both, key) for d, both in runs.items() if all(both)}


def trained_densenet(path: str | Path = WEIGHTS) -> tuple[DenseNet, Record]:
    """Return the trained network, in evaluation mode, and the record of its run.

    `python -m experiments.weights` writes the file, convolutions in half precision.

    Chapter: "What does it get wrong?".
    """
    data = Path(path).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != WEIGHTS_SHA_256:
        held = f"SHA-256 {found} ({len(data):,} bytes)"
        raise ValueError(f"{path} has {held}: expected {WEIGHTS_SHA_256}; restore it")
    run = safetensors.safe_open(path, "pt").metadata()
    runs = load(run["experiment"], run["arm"], run["device"])
    (record,) = [r for r in runs if str(r["seed"]) == run["seed"]]
    net = DenseNet(**record["configuration"]["model"])
    net.load_state_dict(safetensors.torch.load(data))  # into float32
    return net.eval(), record
