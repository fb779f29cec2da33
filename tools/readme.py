"""Write the figures of results/ into README.md, between its two marks."""

import json
import re
import statistics
from pathlib import Path

from d2l_dense import plots, records, report

README = Path(__file__).resolve().parent.parent / "README.md"
BENCH = records.RESULTS / "bench.json"
MARKS = re.compile(r"(<!-- results -->\n).*(<!-- /results -->)", re.DOTALL)
RECIPES = {
    "ours": "ours: Nesterov momentum, one cycle, weight decay, mirrored images",
    "d2l": "D2L's: SGD at 0.01, no augmentation",
}


def figures():
    """A table: one row for each recipe and type of device that is recorded."""
    rows, notes = [], set()
    for arm, recipe in RECIPES.items():
        for device in ("cpu", "cuda", "mps"):
            runs = records.load("densenet", arm, device)
            if not runs:
                continue
            minutes = records.summarise(runs, "seconds").mean / 60
            accuracy = [
                f"{records.summarise(runs, f'{split}_accuracy'):.4f}"
                for split in ("val", "test")
            ]
            hardware = f"{report.conditions(runs)[1]} ({device})"
            who = recipe.partition(":")[0]
            notes |= {f"{who}: {run['note']}" for run in runs if "note" in run}
            rows.append([recipe, *accuracy, hardware, f"{minutes:.0f}"])
    head = ["recipe", "validation", "test", "hardware, precision", "minutes a run"]
    benches = json.loads(BENCH.read_text("utf-8")).values()
    parts = [plots.table(head, rows), *sorted(notes), *map(speed, benches)]
    return "\n\n".join(parts) + "\n"


def speed(run):
    """A sentence: what `make bench` measured."""
    theirs, ours = (
        statistics.median(run["images_per_second"][arm]) for arm in ("d2l", "ours")
    )
    device = run["device"]
    text = (
        f"Training end to end (`make bench`), {report.hardware(run)}, "
        f"{device['cores']} cores: {ours:.0f} images/s against {theirs:.0f} "
        f"D2L's way (in single precision), {run['ratio']:.2f} times as many "
        f"({min(run['ratios']):.2f} to {max(run['ratios']):.2f} over {run['turns']} "
        f"turns). Ours computes at {run['share_of_product_flops']:.0%} of the rate at "
        "which the machine multiplies large matrices in the same precision."
    )
    for task, row in run.get("densenet_121", {}).items():
        ratios = [f"{ratio:.2f} ({arm})" for arm, ratio in row["ratios"].items()]
        text += (
            f" DenseNet-121 at 224×224, {task}: {' and '.join(ratios)} times the "
            "images per second of torchvision's."
        )
    if "profile" in run:
        shares = (f"{name} {share:.0%}" for name, share in run["profile"].items())
        part = run["profile"]["convolution"]
        text += (
            f"\n\nOf the time of our step (profiled): {'; '.join(shares)}. So the "
            f"convolutions run at {run['share_of_product_flops'] / part:.0%} of that "
            f"rate, and {1 - part:.0%} of the time goes to what is none."
        )
    return text


def filled(text):
    """The text with the figures that results/ holds now."""
    return MARKS.sub(lambda marks: marks[1] + "\n" + figures() + "\n" + marks[2], text)


if __name__ == "__main__":
    README.write_text(filled(README.read_text("utf-8")), "utf-8")
