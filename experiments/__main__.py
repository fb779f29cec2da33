"""`python -m experiments NAME`: run what is not recorded yet, and record it.

Without a name: what is recorded, what is missing, and how long the rest takes here.
"""

import argparse
import math
import sys
from pathlib import Path
from statistics import mean

import pandas as pd

from d2l_dense import Trainer, checks, records
from d2l_dense.files import cache_folder, check_folder
from experiments import housing, memory, reuse, training
from experiments.provenance import provenance

ARMS = {**training.ARMS, **housing.ARMS, "memory": memory.ARMS, "reuse": reuse.ARMS}
MODULES = {"memory": memory, "reuse": reuse, **dict.fromkeys(housing.ARMS, housing)}
SEEDS = {"memory": 1, "reuse": 1, "housing_depth": 1, "housing_repeated": 5}
SEEDS |= {"pooling": 10, "parameters densenet": 10, "parameters narrow_resnet": 6}
SEEDS |= {"details": 6, "sparse": 6, "reuse ablation": 10, "densenet d2l": 1}
# What is wanted; of all others, 3.
CHECKPOINTS = cache_folder() / "checkpoints"


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    add = parser.add_argument
    add("name", nargs="?", choices=sorted(ARMS))
    add("--seeds", type=int, default=1, help="seeds 0, 1, ... (1)")
    add("--arms", nargs="+", help="which alternatives (all)")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    precisions = ("auto", "32-true", "bf16-mixed", "16-mixed")
    how = "of trainings on Fashion-MNIST; auto: that of records to compare with"
    add("--precision", choices=precisions, default="auto", help=how)
    add("--results", type=Path, default=records.RESULTS, help="where records go")
    add("--checkpoints", type=Path, default=CHECKPOINTS, help="where runs go on from")
    add("--note", help="what a reader of the figures must know")
    add("--source", choices=("ames", "kaggle"), default="ames", help="housing only")
    add("--submit", type=Path, help="housing only: write Kaggle's file, run no more")
    return parser


def overview(device: str, folder: Path) -> str:
    """A table: of each arm, what is recorded on this type of device, and the rest."""
    rows = []
    for name in sorted(ARMS):
        for arm in ARMS[name]:
            wanted = set(range(SEEDS.get(f"{name} {arm}", SEEDS.get(name, 3))))
            runs = records.load(name, arm, device, folder)
            seeds = [run["seed"] for run in runs]
            missing = len(wanted - {*seeds})
            minutes = mean(run["seconds"] / 60 for run in runs) if runs else math.nan
            rows.append([name, arm, seeds, missing, minutes, missing * minutes])
    head = ["experiment", "arm", "seeds", "missing", "minutes a run", "minutes to do"]
    table = pd.DataFrame(rows, columns=head)
    return table.to_string(index=False, float_format="%.1f", na_rep="unknown")


def main() -> None:
    command = parser()
    options = command.parse_args()
    trainer = Trainer(accelerator=options.device, precision=options.precision)
    device = trainer.device.type
    if options.name is None:
        print(overview(device, options.results))
        return
    name = options.name + ("_kaggle" if options.source == "kaggle" else "")
    if name not in ARMS or (options.submit and name != "housing_kaggle"):
        command.error("--source and --submit FILE --source kaggle are for housing")
    if options.submit:
        check_folder(options.submit.parent)
        housing.submit(options.submit, device)
        print(f"wrote {options.submit}")
        return
    checks.count("--seeds", options.seeds)
    arms = list(dict.fromkeys(options.arms or ARMS[name]))
    for arm in arms:
        checks.choice("--arms", arm, ARMS[name])
    check_folder(options.results)
    check_folder(options.checkpoints)
    module = MODULES.get(name, training)
    recorded = records.load(name, device=device, folder=options.results)
    recorded = trainer.fabric.broadcast(recorded)  # other machines may have none
    precisions = {}  # of each arm: what is asked for, or what its records have
    for arm in arms:
        precision = trainer.precision if module is training else "32-true"
        alike = [r for r in recorded if r["arm"] == arm]
        if not alike and module is training and options.precision == "auto":
            alike = recorded  # it is to be compared with these
        known = {r["device"]["precision"] for r in alike}
        if options.precision == "auto" and len(known) == 1:
            (precision,) = known
        for found in known - {precision}:
            text = f"{name} {arm} is recorded with precision {found}, and this run"
            advice = f"set --precision {found}, or other --results"
            raise ValueError(f"{text} would have {precision}: {advice}")
        precisions[arm] = precision
    there = {(run["arm"], run["seed"]) for run in recorded}
    for seed in range(options.seeds):
        for arm in arms:
            if (arm, seed) in there:
                print(records.path(name, arm, seed, device).name, "is there")
                continue
            record = {"experiment": name, "arm": arm, "seed": seed}
            precision = precisions[arm]
            record |= provenance(trainer.device, precision)
            run = training.Run(name, arm, seed, device, options.checkpoints, precision)
            record |= module.execute(run)
            record.setdefault("seconds", sum(e["seconds"] for e in record["history"]))
            if options.note:
                record["note"] = options.note
            if trainer.fabric.is_global_zero:  # under torchrun one process writes
                print("wrote", records.write(record, options.results).name)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, FloatingPointError, MemoryError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from the last whole epoch.")
