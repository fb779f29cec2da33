"""d2l_dense/records.py: recorded runs, and what is said about them."""

import json
import math
import statistics
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2l_dense import records

RECORD = {
    "experiment": "densenet",
    "arm": "ours",
    "seed": 0,
    "configuration": {"model": {"lr": 0.15}, "max_epochs": 2},
    "device": {
        "type": "cpu",
        "name": "A processor",
        "cores": 2,
        "processes": 1,
        "precision": "bf16-mixed",
    },
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
    "commit": "6f9304c",
    "date": "2025-11-24",
    "seconds": 61.5,
    "train_accuracy": 0.9622,
    "val_accuracy": 0.9462,
    "test_accuracy": 0.9397,
    "test_loss": 0.21,
    "history": [
        {"epoch": 1, "seconds": 30.5, "train_loss": 0.5, "lr": 0.006},
        {"epoch": 2, "seconds": 31.0, "train_loss": 0.25, "lr": 0.1},
    ],
}


def record(**changes):
    return deepcopy(RECORD) | changes


def on(device):
    return RECORD["device"] | {"type": device}


def test_there_and_back(tmp_path):
    place = records.write(record(), tmp_path)
    assert place == tmp_path / "densenet-ours-0-cpu.json"
    assert place == records.path("densenet", "ours", 0, "cpu", tmp_path)
    assert records.load("densenet", folder=tmp_path) == [RECORD]
    assert [path.name for path in tmp_path.iterdir()] == [place.name]
    assert place.read_text().endswith("}\n")


def test_a_folder_may_be_a_string(tmp_path):
    name = "densenet", "ours", 0, "cpu"
    assert records.path(*name, str(tmp_path)) == records.path(*name, tmp_path)


def test_a_record_replaces_the_one_before(tmp_path):
    records.write(record(test_accuracy=0.5), tmp_path)
    records.write(record(), tmp_path / "new" / "folder")
    records.write(record(), tmp_path)
    assert records.load("densenet", folder=tmp_path) == [RECORD]


def test_records_come_by_arm_and_seed(tmp_path):
    runs = [("ours", 10), ("d2l", 1), ("ours", 2), ("d2l", 0)]
    for arm, seed in runs:
        records.write(record(arm=arm, seed=seed), tmp_path)
    records.write(record(arm="ours", seed=2, device=on("cuda")), tmp_path)
    records.write(record(experiment="pooling", arm="ours"), tmp_path)

    def found(*arguments):
        return [
            (r["arm"], r["seed"], r["device"]["type"])
            for r in records.load(*arguments, folder=tmp_path)
        ]

    assert found("densenet", "*", "cpu") == [(*run, "cpu") for run in sorted(runs)]
    assert found("densenet", "d2l") == [("d2l", 0, "cpu"), ("d2l", 1, "cpu")]
    assert found("densenet", "ours", "cuda") == [("ours", 2, "cuda")]
    assert len(found("densenet")) == 5 and len(found("pooling")) == 1
    assert found("densenet", "our") == found("dense") == []


def without(key):
    changed = record()
    del changed[key]
    return changed


@pytest.mark.parametrize("key", records.SCHEMA["required"])
def test_what_is_missing_is_named(tmp_path, key):
    words = rf"the record does not fit the schema: \$: '{key}' is a required property"
    with pytest.raises(ValueError, match=words):
        records.write(without(key), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"experiment": "dense-net"}, r"\$.experiment: 'dense-net' does not match"),
        ({"experiment": "../x"}, r"\$.experiment: '../x' does not match"),
        ({"arm": "Ours"}, r"\$.arm: 'Ours' does not match"),
        ({"arm": ""}, r"\$.arm: '' does not match"),
        ({"seed": -1}, r"\$.seed: -1 is less than the minimum of 0"),
        ({"seed": "0"}, r"\$.seed: '0' is not of type 'integer'"),
        ({"seed": True}, r"\$.seed: True is not of type 'integer'"),
        ({"configuration": []}, r"\$.configuration: \[\] is not of type 'object'"),
        ({"device": "cpu"}, r"\$.device: 'cpu' is not of type 'object'"),
        ({"device": {"type": "cpu"}}, r"\$.device: 'name' is a required property"),
        ({"device": on("tpu")}, r"\$.device.type: 'tpu' is not one of"),
        ({"versions": {"python": "3"}}, r"\$.versions: 'torch' is a required"),
        ({"commit": 3}, r"\$.commit: 3 is not of type 'string'"),
        ({"date": "yesterday"}, r"\$.date: 'yesterday' is not a 'date'"),
        ({"date": "2025-02-30"}, r"\$.date: '2025-02-30' is not a 'date'"),
        ({"seconds": 0}, r"\$.seconds: 0 is less than or equal to the minimum"),
        ({"test_accuracy": 1.01}, r"\$.test_accuracy: 1.01 is greater than the max"),
        ({"val_accuracy": -0.1}, r"\$.val_accuracy: -0.1 is less than the minimum"),
        ({"train_accuracy": "0.9"}, r"\$.train_accuracy: '0.9' is not of type 'num"),
        ({"rmse": -1}, r"\$.rmse: -1 is less than the minimum"),
        ({"peak_bytes": 1.5}, r"\$.peak_bytes: 1.5 is not of type 'integer'"),
        ({"step_seconds": 0}, r"\$.step_seconds: 0 is less than or equal"),
        ({"accuracy": 0.9}, r"\$: Additional properties .*'accuracy' was unexpected"),
        ({"history": []}, r"\$.history: \[\] should be non-empty"),
        ({"history": [{"epoch": 1}]}, r"\$.history\[0\]: 'seconds' is a required"),
        (
            {"history": [{"epoch": 1, "seconds": 1, "loss": "low"}]},
            r"\$.history\[0\].loss: 'low' is not of type 'number'",
        ),
    ],
)
def test_every_violation_is_named(tmp_path, changes, words):
    with pytest.raises(ValueError, match=f"does not fit the schema: {words}"):
        records.write(record(**changes), tmp_path)
    assert list(tmp_path.iterdir()) == []
    # The same in a file that is there, under the right name or not.
    place = tmp_path / "densenet-ours-0-cpu.json"
    place.write_text(json.dumps(record(**changes)))
    with pytest.raises(ValueError, match=f"^{place} does not fit the schema: {words}"):
        records.load("densenet", folder=tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_figure(tmp_path, value):
    for changes in (
        {"test_loss": value},
        {"history": [{"epoch": 1, "seconds": 1.0, "val_loss": value}]},
    ):
        with pytest.raises(ValueError, match="not JSON compliant"):
            records.write(record(**changes), tmp_path)
        assert list(tmp_path.iterdir()) == []
        place = tmp_path / "densenet-ours-0-cpu.json"
        place.write_text(json.dumps(record(**changes)))
        with pytest.raises(ValueError, match=f"^{place} is not JSON .*(NaN|Infinity)"):
            records.load("densenet", folder=tmp_path)
        place.unlink()


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "\udcff", json.dumps(RECORD)[:99]])
def test_a_cut_file_is_named(tmp_path, text):
    place = tmp_path / "densenet-ours-0-cpu.json"
    place.write_bytes(text.encode(errors="surrogateescape"))
    words = f"^{place} is not JSON .* Restore it, or delete it and run its exp"
    with pytest.raises(ValueError, match=words):
        records.load("densenet", folder=tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"densenet"'])
def test_other_json_is_no_record(tmp_path, text):
    place = tmp_path / "densenet-ours-0-cpu.json"
    place.write_text(text)
    with pytest.raises(ValueError, match=f"^{place} does not fit .*not of type 'obj"):
        records.load("densenet", folder=tmp_path)


@pytest.mark.parametrize(
    "name", ["densenet-ours-1-cpu", "densenet-d2l-0-cpu", "densenet-ours-0-cuda"]
)
def test_a_name_must_say_what_is_inside(tmp_path, name):
    place = tmp_path / f"{name}.json"
    place.write_text(json.dumps(RECORD))
    words = f"^{place} holds the record of densenet-ours-0-cpu.json. Rename it."
    with pytest.raises(ValueError, match=words):
        records.load("densenet", folder=tmp_path)


def test_one_bad_file_among_good_ones_is_not_passed_over(tmp_path):
    for seed in range(3):
        records.write(record(seed=seed), tmp_path)
    (tmp_path / "densenet-ours-1-cpu.json").write_text("{}")
    with pytest.raises(ValueError, match="densenet-ours-1-cpu.json does not fit"):
        records.load("densenet", folder=tmp_path)


def test_the_records_of_this_project_can_be_read():
    names = {place.name for place in records.RESULTS.glob("*-*.json")}
    found = set()
    for experiment in {name.split("-")[0] for name in names}:
        for r in records.load(experiment):
            key = experiment, r["arm"], r["seed"], r["device"]["type"]
            found.add(records.path(*key).name)
    assert found == names


# Summaries


def runs(*values):
    return [record(seed=i, test_accuracy=value) for i, value in enumerate(values)]


def test_mean_deviation_and_interval_by_hand():
    summary = records.summarise(runs(0.90, 0.92, 0.94), "test_accuracy")
    assert summary.n == 3
    assert summary.mean == pytest.approx(0.92)
    assert summary.std == pytest.approx(0.02)
    # Student's t with 2 degrees of freedom, 97.5 %: 4.3027 in any table.
    half = 4.3027 * 0.02 / math.sqrt(3)
    assert summary.interval == pytest.approx((0.92 - half, 0.92 + half), abs=1e-6)
    assert f"{summary:.3f}" == "0.920 ± 0.020 (n = 3)"


def test_two_runs_have_a_wide_interval():
    summary = records.summarise(runs(0.90, 0.92), "test_accuracy")
    assert summary.std == pytest.approx(0.02 / math.sqrt(2))
    assert summary.interval[1] - 0.91 == pytest.approx(12.7062 * 0.01, abs=1e-6)


def test_one_run_has_no_spread():
    summary = records.summarise(runs(0.9397), "test_accuracy")
    assert summary == records.Summary(0.9397, None, None, 1)
    assert f"{summary:.4f}" == "0.9397 (one run)"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_any_summary(values):
    summary = records.summarise(runs(*values), "test_accuracy")
    assert summary.mean == pytest.approx(statistics.mean(values))
    assert summary.std == pytest.approx(statistics.stdev(values), abs=1e-12)
    low, high = summary.interval
    assert low <= summary.mean <= high
    assert summary.mean - low == pytest.approx(high - summary.mean, abs=1e-12)


def test_summaries_take_any_iterable():
    summary = records.summarise(iter(runs(0.5, 0.7)), "test_accuracy")
    assert summary.mean == pytest.approx(0.6)


def test_a_figure_that_is_missing():
    some = runs(0.9, 0.8)
    del some[1]["test_accuracy"]
    with pytest.raises(ValueError, match="^no test_accuracy in seed 1 of ours$"):
        records.summarise(some, "test_accuracy")
    with pytest.raises(ValueError, match="^no test_accuracy in no records$"):
        records.summarise([], "test_accuracy")


# Differences


def test_a_difference_is_taken_seed_by_seed():
    """Two arms that rise together: the pairs differ by 0.02, whatever the seed."""
    first, second = runs(0.90, 0.93, 0.96), runs(0.88, 0.91, 0.94)
    found = records.difference(first, reversed(second), "test_accuracy")
    assert found.n == 3 and math.isclose(found.mean, 0.02)
    assert found.std < 1e-12
    assert found.sign == 1
    assert records.difference(second, first, "test_accuracy").sign == -1


def test_an_interval_around_zero_decides_nothing():
    found = records.difference(runs(0.90, 0.92), runs(0.92, 0.90), "test_accuracy")
    assert found.sign == 0 and found.interval[0] < 0 < found.interval[1]
    assert records.difference(runs(0.9), runs(0.8), "test_accuracy").sign == 0


def test_only_seeds_of_both_are_compared():
    found = records.difference(runs(0.9, 0.8), runs(0.8), "test_accuracy")
    assert found.n == 1 and found.std is None
    with pytest.raises(ValueError, match="no test_accuracy to compare"):
        records.difference(runs(0.9), [], "test_accuracy")


def test_arms_and_seeds_are_not_mixed():
    ours, theirs = runs(0.9, 0.8), runs(0.7, 0.6)
    for run in theirs:
        run["arm"] = "d2l"
    with pytest.raises(ValueError, match="records of .* d2l, .* ours: expected .* arm"):
        records.summarise([*ours, *theirs], "test_accuracy")
    with pytest.raises(ValueError, match="records of .*expected those of one arm"):
        records.difference(ours, [*ours, *theirs], "test_accuracy")
    with pytest.raises(ValueError, match=r"seeds \[0, 1, 0, 1\]: expected each"):
        records.summarise([*ours, *runs(0.7, 0.6)], "test_accuracy")
    assert records.difference(ours, theirs, "test_accuracy").n == 2


def test_devices_are_not_mixed():
    (here,) = runs(0.9)
    there = deepcopy(here)
    there["device"]["type"] = "cuda"
    with pytest.raises(
        ValueError, match="records of cpu, cuda: expected .* one device"
    ):
        records.summarise([here, there], "test_accuracy")
    with pytest.raises(ValueError, match="records of cpu, cuda"):
        records.difference([here], [there], "test_accuracy")
    with pytest.raises(ValueError, match="no rmse in seed 0"):
        records.difference([here], [here], "rmse")
