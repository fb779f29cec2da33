"""d2l_dense/report.py: what chapters say of runs; test_reference.py has the pages."""

import pytest
from test_records import RECORD

from d2l_dense import records, report


@pytest.fixture
def recorded(monkeypatch):
    """A function that puts runs in the place of those that are recorded."""

    def recorded(**runs):
        def load(experiment, arm, device):
            return runs.get(arm, []) if device == "cpu" else []

        monkeypatch.setattr(records, "load", load)

    return recorded


def runs(*accuracies, **more):
    return [
        RECORD | {"seed": seed, "test_accuracy": value, **more}
        for seed, value in enumerate(accuracies)
    ]


ARMS = {"A": ("pooling", "a"), "B": ("pooling", "b")}


@pytest.mark.parametrize(
    ("better", "first", "expected"),
    [
        (1, [0.93, 0.94, 0.92], "A is better"),
        (-1, [0.93, 0.94, 0.92], "B is better"),
        (1, [0.90, 0.89, 0.91], "the data do not decide"),
    ],
)
def test_the_interval_decides(better, first, expected):
    second = runs(0.90, 0.91, 0.89)
    gap = records.difference(runs(*first), second, "test_accuracy")
    low, high = gap.interval
    text = report.verdict(gap, "A", "B", better)
    assert text.endswith(f"{low:+.4f} to {high:+.4f}, n = 3): {expected}")


def test_one_pair_decides_nothing(recorded):
    recorded(a=runs(0.9), b=runs(0.8))
    line, gaps = report.compare("A", "B", ARMS)
    assert "+0.1000 from the one seed that both have: a first estimate" in line
    assert [gap.n for gap in gaps.values()] == [1]


def test_what_is_missing_names_its_command_and_no_other(recorded):
    recorded(a=runs(0.9))
    line, gaps = report.compare("A", "B", ARMS)
    todo = "`python -m experiments pooling --arms b --seeds 3`"
    assert line == f"- **A against B**: not recorded yet; {todo}." and gaps == {}


def test_a_note_names_the_runs_that_it_is_about(recorded):
    noted = runs(0.9, 0.8, note="A busy machine.")
    assert report.notes({"A": [*runs(0.7), *noted]}) == [
        "- A, seeds 0, 1: A busy machine."
    ]
    both = {"A": [*runs(0.7), *noted], "B": noted[1:]}
    assert report.notes(both) == ["- A, seeds 0, 1; B, seed 1: A busy machine."]
    recorded(a=noted)
    table = report.runs_table(ARMS)
    assert "- All runs: A busy machine." in table
    assert "| B | not recorded yet | – |" in table
    assert report.notes({"A": runs(0.7), "B": []}) == []


def test_where_nothing_depends_on_the_seed_the_table_says_so(recorded):
    recorded(a=runs(0.7, 0.7, 0.7 + 1e-9))
    row = next(row for row in report.runs_table(ARMS).split("\n") if "| A" in row)
    assert row.replace("\xa0", " ").startswith("| A | 0.7000 with every seed | – |")


def test_a_verdict_that_hangs_on_its_last_digit_says_so():
    barely = records.Summary(0.0068, 0.0027, (0.00004, 0.01356), 3)
    text = report.verdict(barely, "A", "B")
    assert text.endswith("A is better, by an interval that only just excludes zero")
    clearly = records.Summary(0.0068, 0.0027, (0.0001, 0.0135), 3)
    assert report.verdict(clearly, "A", "B").endswith("A is better")


def test_precision_is_named_in_words():
    (run,) = runs(0.9)
    assert report.hardware(run).endswith(", mixed precision (bf16)")
    run["device"] = run["device"] | {"precision": "64-true"}
    assert report.hardware(run).endswith(", 64-true")


def test_ratios_in_words():
    assert report.spread([1.1, 0.9, 1.04]) == "1.04 (0.90 to 1.10)"
