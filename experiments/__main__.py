"""`python -m experiments NAME`: run what is not recorded yet, and record it.

Without a name: say what there is, what is recorded, and how long a run took.
"""

import argparse
import importlib
import sys
from pathlib import Path

from d2l_dense import Trainer, records
from d2l_dense.checkpoint import cache_folder, check_folder
from d2l_dense.report import PRECISIONS
from experiments import overview
from experiments.training import Run

NAMES = (
    "densenet",
    "details",
    "housing",
    "memory",
    "parameters",
    "pooling",
    "reuse",
    "sparse",
)
CHECKPOINTS = cache_folder() / "checkpoints"


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--seeds", type=count, help="seeds 0, 1, ... (1)")
    parser.add_argument("--arms", nargs="+", help="which alternatives (all)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto"
    )
    parser.add_argument(
        "--results", type=Path, default=records.RESULTS, help="where records go"
    )
    parser.add_argument("--checkpoints", type=Path, help="where runs go on from")
    parser.add_argument("--note", help="what a reader of the figures must know")
    parser.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="of training: that of the runs to compare with (the device's best)",
    )
    housing = parser.add_argument_group("housing only")
    housing.add_argument("--source", choices=("ames", "kaggle"), help="of sales (ames)")
    housing.add_argument("--submit", type=Path, help="write Kaggle's file, run no more")
    options = parser.parse_args()
    if options.name is None:
        given = options.arms, options.note, options.source, options.submit
        given += options.seeds, options.checkpoints
        if any(given) or options.precision != "auto":
            parser.error(f"for which experiment? There are {', '.join(NAMES)}")
        if not options.results.is_dir():
            parser.error(f"--results {options.results}: there is no such folder")
        device = Trainer(accelerator=options.device, progress=False).device.type
        print("\n".join(overview.lines(NAMES, device, options.results)))
        return
    experiment = importlib.import_module(f"experiments.{options.name}")
    if options.name != "housing" and (options.source or options.submit):
        parser.error("--source and --submit are for housing")
    if options.precision != "auto" and options.name in ("housing", "memory", "reuse"):
        parser.error(f"--precision is for training; {options.name} has its own")
    if options.submit and options.source != "kaggle":
        parser.error("--submit needs --source kaggle")
    if options.source == "kaggle":
        options.name = experiment.KAGGLE
    arms = options.arms or list(experiment.ARMS)
    for arm in arms:
        if arm not in experiment.ARMS:
            parser.error(f"no arm {arm!r}; there are {', '.join(experiment.ARMS)}")
    trainer = Trainer(accelerator=options.device, precision=options.precision)
    device, first = trainer.device.type, trainer.fabric.is_global_zero
    if options.submit:
        if options.submit.is_dir():
            parser.error(f"--submit {options.submit} is a folder: expected a file")
        check_folder(options.submit.parent)
        experiment.submit(options.submit, device)
        print(f"wrote {options.submit}")
        return
    where = options.checkpoints or CHECKPOINTS
    for folder in (options.results, where):
        check_folder(folder)
    for seed in range(options.seeds or 1):
        for arm in arms:
            found = records.load(options.name, arm, device, options.results)
            if seed in [record["seed"] for record in found]:
                print(f"{records.path(options.name, arm, seed, device).name} is there")
                continue
            run = Run(options.name, arm, seed, device, where, trainer.precision)
            record = experiment.execute(run)
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
