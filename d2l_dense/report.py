"""What chapters say of recorded runs: tables of them, and comparisons in words."""

from collections.abc import Mapping, Sequence

from d2l_dense import plots, records
from d2l_dense.records import Record, Summary

DEVICES = ("cpu", "cuda", "mps")
MISSING = "not recorded yet"
UNDECIDED = "the data do not decide"

# A name for readers: the experiment and the arm that its runs are recorded under.
Arms = Mapping[str, tuple[str, str]]


def verdict(gap: Summary, first: str, second: str, better: int = 1) -> str:
    """Say what first minus second means; `better` is the sign of what is good."""
    text = f"{gap.mean:+.4f}"
    if gap.interval is None:
        return f"{text} from one pair: a first estimate, without an interval"
    low, high = gap.interval
    winner = {0: UNDECIDED, better: f"{first} is better"}
    found = winner.get(gap.sign, f"{second} is better")
    return f"{text} (95 % interval {low:+.4f} to {high:+.4f}, n = {gap.n}): {found}"


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
    rows, noted = [], []
    for name, where in arms.items():
        found = _recorded(*where)
        for runs in found.values():
            figure, interval = records.summarise(runs, key), "–"
            if figure.std:  # 0 where nothing depends on the seed
                interval = "{:.4f} to {:.4f}".format(*figure.interval)
            rows.append([name, f"{figure:.4f}", interval, *conditions(runs)])
            noted += notes(name, runs)
        if not found:
            rows.append([name, MISSING, *["–"] * 4])
    head = ["what", title, "95 % interval", "seeds", "hardware"]
    return "\n".join([plots.table([*head, "a run takes"], rows), "", *noted])


def conditions(runs: Sequence[Record]) -> list[str]:
    """How some runs were made: seeds, hardware and time."""
    seeds = ", ".join(sorted({str(run["seed"]) for run in runs}))
    kinds = {(r["device"]["name"], r["device"]["precision"]) for r in runs}
    hardware = "; ".join(f"{name}, {kind}" for name, kind in sorted(kinds))
    seconds = records.summarise(runs, "seconds").mean
    time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    return [seeds, hardware, time]


def notes(name: str, runs: Sequence[Record]) -> list[str]:
    """A Markdown list of what was noted of an arm's runs, with their seeds."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        if "note" in run:
            seeds.setdefault(run["note"], []).append(str(run["seed"]))
    return [f"- {name}, seed {', '.join(s)}: {note}" for note, s in seeds.items()]


def _recorded(experiment: str, arm: str) -> dict[str, list[Record]]:
    """The runs of an arm by type of device, where there are any."""
    runs = {d: records.load(experiment, arm, d) for d in DEVICES}
    return {device: found for device, found in runs.items() if found}
