"""What chapters say of recorded runs: tables of them, and comparisons in words."""

from collections.abc import Mapping, Sequence
from statistics import median

from d2l_dense import plots, records
from d2l_dense.records import Record, Summary

DEVICES = ("cpu", "cuda", "mps")
PRECISIONS = {
    "32-true": "single precision",
    "bf16-mixed": "mixed precision (bf16)",
    "16-mixed": "mixed precision (fp16)",
}
MISSING = "not recorded yet"
UNDECIDED = "the data do not decide"

# A name for readers: the experiment and the arm that its runs are recorded under.
Arms = Mapping[str, tuple[str, str]]


def verdict(gap: Summary, first: str, second: str, better: int = 1) -> str:
    """Say what first minus second means; `better` is the sign of what is good."""
    text = f"{gap.mean:+.4f}"
    if gap.interval is None:
        one = "from the one seed that both have: a first estimate, without an interval"
        return f"{text} {one}"
    low, high = (f"{end:+.4f}" for end in gap.interval)
    found = UNDECIDED
    if gap.sign:
        found = f"{first if gap.sign == better else second} is better{caveat(gap)}"
    return f"{text} (95 % interval {low} to {high}, n = {gap.n}): {found}"


def caveat(gap: Summary) -> str:
    """What to add to a sure difference whose interval begins at zero, rounded."""
    if gap.sign and not all(round(end, 4) for end in gap.interval):
        return ", by an interval that only just excludes zero"
    return ""


def spread(ratios: Sequence[float]) -> str:
    """The median of some ratios, and their range."""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def compare(
    first: str, second: str, arms: Arms, key: str = "test_accuracy"
) -> tuple[str, dict[str, Summary]]:
    """Compare two arms in pairs of one seed, on each type of device.

    Returns a Markdown list, and the differences by what was compared; none where
    the two have no seed in common on any device: the list then says what to run.
    """
    title, lines, gaps = f"**{first} against {second}**", [], {}
    ours, theirs = _recorded(*arms[first]), _recorded(*arms[second])
    for device in [device for device in ours if device in theirs]:
        try:
            gap = records.difference(ours[device], theirs[device], key)
        except ValueError:  # no seed in common
            continue
        gaps[f"{first} − {second} ({device})"] = gap
        lines.append(f"- {title} ({device}): {verdict(gap, first, second)}.")
    missing = [name for name in (first, second) if not _recorded(*arms[name])]
    todo = " and ".join(command(*arms[n]) for n in missing or [first, second])
    return "\n".join(lines) or f"- {title}: {MISSING}; {todo}.", gaps


def command(experiment: str, arm: str) -> str:
    """The command that records three seeds of an arm, as Markdown."""
    return f"`python -m experiments {experiment} --arms {arm} --seeds 3`"


def runs_table(
    arms: Arms, key: str = "test_accuracy", title: str = "test accuracy"
) -> str:
    """Return a row for each arm and type of device, and what was noted of its runs."""
    rows, all_runs = [], {}
    for name, where in arms.items():
        found = _recorded(*where)
        for runs in found.values():
            figure = records.summarise(runs, key)
            text, interval = f"{figure:.4f}", "–"
            if figure.std is not None and figure.std < 5e-5:
                text = f"{figure.mean:.4f} with every seed"
            elif figure.interval:
                interval = "{:.4f} to {:.4f}".format(*figure.interval)
            rows.append([name, text, interval, *conditions(runs)])
        if not found:
            rows.append([name, MISSING, *["–"] * 4])
        all_runs[name] = [run for runs in found.values() for run in runs]
    head = ["what", title, "95 % interval", "seeds", "hardware"]
    table = plots.table([*head, "a run takes"], rows)
    return "\n".join([table, "", *notes(all_runs)])


def conditions(runs: Sequence[Record]) -> list[str]:
    """How some runs were made: seeds, hardware and time."""
    seeds = ", ".join(sorted({str(run["seed"]) for run in runs}))
    kinds = "; ".join(sorted({hardware(run) for run in runs}))
    seconds = records.summarise(runs, "seconds").mean
    time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return [seeds, kinds, time]


def hardware(run: Record) -> str:
    """The type of hardware, and the precision, that a run or a bench was made with."""
    precision = run["device"]["precision"]
    return f"{run['device']['name']}, {PRECISIONS.get(precision, precision)}"


def notes(runs: Mapping[str, Sequence[Record]]) -> list[str]:
    """A Markdown list of what was noted, and of which runs; they come by name."""
    seeds: dict[str, dict[str, list[str]]] = {}
    for name, found in runs.items():
        for run in found:
            by_name = seeds.setdefault(run.get("note", ""), {})
            by_name.setdefault(name, []).append(str(run["seed"]))
    if len(seeds) == 1:  # one note, or none, for all
        return [f"- All runs: {note}" for note in seeds if note]
    seeds.pop("", None)
    lines = []
    for note, by_name in seeds.items():
        of = (
            f"{name}, seed{'s' * (len(found) > 1)} {', '.join(found)}"
            for name, found in by_name.items()
        )
        lines.append(f"- {'; '.join(of)}: {note}")
    return lines


def _recorded(experiment: str, arm: str) -> dict[str, list[Record]]:
    """The runs of an arm by type of device, where there are any."""
    runs = {d: records.load(experiment, arm, d) for d in DEVICES}
    return {device: found for device, found in runs.items() if found}
