"""`python -m experiments NAME`: run what is not recorded yet, and record it.

Without a name: what is recorded, what is missing, and how long the rest takes here.
"""

import argparse
import sys
from pathlib import Path

from d2l_dense import Trainer, checks, records
from d2l_dense.files import cache_folder, check_folder
from experiments import housing, memory, reuse, training

MODULES = {"housing": housing, "memory": memory, "reuse": reuse}
ARMS = {name: list(arms) for name, arms in training.ARMS.items()}
ARMS |= {name: list(module.ARMS) for name, module in MODULES.items()}
CHECKPOINTS = cache_folder() / "checkpoints"
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(ARMS))
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... (1)")
    parser.add_argument("--arms", nargs="+", help="which alternatives (all)")
    devices = ("auto", "cpu", "cuda", "mps")
    parser.add_argument("--device", choices=devices, default="auto")
    parser.add_argument(
        "--results", type=Path, default=records.RESULTS, help="where records go"
    )
    parser.add_argument(
        "--checkpoints", type=Path, default=CHECKPOINTS, help="where runs go on from"
    )
    parser.add_argument("--note", help="what a reader of the figures must know")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of training: that of the runs to compare with (the device's best)",
    )
    only = parser.add_argument_group("housing only")
    only.add_argument("--source", choices=("ames", "kaggle"), default="ames")
    only.add_argument("--submit", type=Path, help="write Kaggle's file, run no more")
    return parser


def overview(device: str, folder: Path, wanted: int = 3) -> list[str]:
    """A line an arm: seeds recorded on this type of device, missing ones, minutes."""
    table = [
        f"{'experiment':16}{'arm':20}{'seeds on ' + device:18}minutes a run, to do"
    ]
    names = {"housing_kaggle": ARMS["housing"], **ARMS}
    for name in sorted(names):
        seeds = 1 if name in ("memory", "reuse") else wanted
        for arm in names[name]:
            runs = records.load(name, arm, device, folder)
            found = [run["seed"] for run in runs]
            minutes = [run["seconds"] / 60 for run in runs]
            missing = len({*range(seeds)} - {*found})
            each = sum(minutes) / len(minutes) if minutes else None
            took = (
                f"{each:.1f}, {missing * each:.0f}"
                if runs
                else f"unknown, {missing} runs"
            )
            shown = ", ".join(map(str, found)) or "none"
            table.append(f"{name:16}{arm:20}{shown:18}{took}")
    return table


def main() -> None:
    command = parser()
    options = command.parse_args()
    trainer = Trainer(accelerator=options.device, precision=options.precision)
    device, first = trainer.device.type, trainer.fabric.is_global_zero
    if options.name is None:
        print("\n".join(overview(device, options.results)))
        return
    checks.count("--seeds", options.seeds)
    arms = options.arms or ARMS[options.name]
    for arm in arms:
        checks.choice("--arms", arm, ARMS[options.name])
    if options.name != "housing" and (options.source == "kaggle" or options.submit):
        command.error("--source and --submit are for housing")
    if options.submit:
        if options.source != "kaggle":
            command.error("--submit needs --source kaggle")
        check_folder(options.submit.parent)
        housing.submit(options.submit, device)
        print(f"wrote {options.submit}")
        return
    for folder in (options.results, options.checkpoints):
        check_folder(folder)
    execute = MODULES.get(options.name, training).execute
    name = "housing_kaggle" if options.source == "kaggle" else options.name
    for seed in range(options.seeds):
        for arm in arms:
            place = records.path(name, arm, seed, device, options.results)
            if place.exists():
                print(f"{place.name} is there")
                continue
            run = training.Run(
                name, arm, seed, device, options.checkpoints, trainer.precision
            )
            record = execute(run)
            if options.note:
                record["note"] = options.note
            if first:  # under torchrun all processes run, and one writes
                print("wrote", records.write(record, options.results).name)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, FloatingPointError, MemoryError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on from the last whole epoch.")
