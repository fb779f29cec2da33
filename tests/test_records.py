"""d2l_dense/records.py: recorded runs, and what is said about them."""

import json
import math
from copy import deepcopy

import numpy as np
import pytest

from d2l_dense import records

DEVICE = {"type": "cpu", "name": "A processor", "cores": 2, "precision": "32-true"}
DATA = {"batch_size": 128, "resize": [96, 96]}
RECORD = {
    "experiment": "densenet",
    "arm": "ours",
    "seed": 0,
    "configuration": {"model": {"lr": 0.15}, "data": DATA, "max_epochs": 2},
    "device": DEVICE,
    "versions": {"python": "3.11.7", "torch": "2.14.1"},
    "commit": "6f9304c",
    "date": "2025-11-24",
    "seconds": 61.5,
    "test_accuracy": 0.9397,
    "history": [{"epoch": 1, "seconds": 30.5, "train_loss": 0.5}],
}
NAME = "densenet-ours-0-cpu.json"
KEY = "test_accuracy"


def record(**changes):
    return deepcopy(RECORD) | changes


def runs(*accuracies, **changes):
    return [
        record(seed=i, test_accuracy=a, **changes) for i, a in enumerate(accuracies)
    ]


# Files


def test_there_and_back(tmp_path):
    records.write(record(test_accuracy=0.5), tmp_path)
    place = records.write(record(), str(tmp_path))  # replaces the one before
    assert place == records.path("densenet", "ours", 0, "cpu", tmp_path)
    assert records.load("densenet", folder=tmp_path) == [RECORD]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert place.read_text().endswith("}\n")


def test_a_flipped_bit_is_refused_or_harmless(tmp_path):
    place = records.write(record(), tmp_path)
    content, random = place.read_bytes(), np.random.default_rng(0)
    for i, bit in random.integers((len(content), 8), size=(200, 2)).tolist():
        damaged = bytearray(content)
        damaged[i] ^= 1 << bit
        place.write_bytes(damaged)
        try:
            assert records.load("densenet", folder=tmp_path) == [RECORD]
        except ValueError as error:
            assert str(place) in str(error)


def test_records_come_by_arm_and_seed(tmp_path):
    made = [("ours", 10), ("d2l", 1), ("ours", 2), ("d2l", 0)]
    for arm, seed in made:
        records.write(record(arm=arm, seed=seed), tmp_path)
    records.write(record(seed=2, device=DEVICE | {"type": "cuda"}), tmp_path)
    records.write(record(experiment="pooling"), tmp_path)

    def found(*arguments):
        runs = records.load(*arguments, folder=tmp_path)
        return [(run["arm"], run["seed"]) for run in runs]

    assert found("densenet", "*", "cpu") == sorted(made)
    assert found("densenet", "ours", "cuda") == [("ours", 2)]
    assert len(found("densenet")) == 5 and found("densenet", "our") == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"experiment": "../x"}, r"\$.experiment: '../x' does not match"),
        ({"seed": True}, r"\$.seed: True is not of type 'integer'"),
        ({"device": {"type": "cpu"}}, r"\$.device: 'name' is a required property"),
        ({"date": "2025-02-30"}, r"\$.date: '2025-02-30' is not a 'date'"),
        ({"test_accuracy": 1.01}, r"\$.test_accuracy: 1.01 is greater than the max"),
        ({"accuracy": 0.9}, r"\$: Additional properties .*'accuracy' was unexpected"),
        ({"history": [{"epoch": 1}]}, r"\$.history\[0\]: 'seconds' is a required"),
        ({"test_loss": math.nan}, "not JSON compliant"),
    ],
)
def test_every_violation_is_named(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        records.write(record(**changes), tmp_path)
    assert list(tmp_path.iterdir()) == []
    place = tmp_path / NAME  # the same in a file that is there
    place.write_text(json.dumps(record(**changes)))
    with pytest.raises(ValueError, match=f"^{place}: .*{words}"):
        records.load("densenet", folder=tmp_path)


@pytest.mark.parametrize(
    "name, text, words",
    [
        *((NAME, text, "") for text in ("", "\udcff", json.dumps(RECORD)[:99], "[]")),
        ("densenet-ours-2-cpu.json", json.dumps(RECORD), f"the record of {NAME}"),
        ("densenet-ours-0-cuda.json", json.dumps(RECORD), f"the record of {NAME}"),
    ],
)
def test_one_bad_file_among_good_ones_is_not_passed_over(tmp_path, name, text, words):
    records.write(record(seed=1), tmp_path)
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=f"^{tmp_path / name}: .*{words}"):
        records.load("densenet", folder=tmp_path)


def test_the_records_of_this_project_can_be_read():
    names = [place.name for place in records.RESULTS.glob("*-*-*-*.json")]
    experiments = {name.split("-")[0] for name in names}
    loaded = [run for name in experiments for run in records.load(name)]
    assert len(loaded) == len(names) >= 86


# Summaries and differences


def test_mean_deviation_and_interval_by_hand():
    summary = records.summarise(runs(0.90, 0.92, 0.94), KEY)
    assert summary.mean == pytest.approx(0.92) and summary.std == pytest.approx(0.02)
    # Student's t with 2 degrees of freedom, 97.5 %: 4.3027 in any table.
    half = 4.3027 * 0.02 / math.sqrt(3)
    assert summary.interval == pytest.approx((0.92 - half, 0.92 + half), abs=1e-6)
    assert f"{summary:.3f}" == "0.920 ± 0.020 (n = 3)"
    summary = records.summarise(runs(0.9397), KEY)
    assert summary == records.Summary([0.9397], 0.9397, None, None, None)
    assert f"{summary:.4f}" == "0.9397 (one run)" and summary.sign == 0


def test_a_difference_is_taken_seed_by_seed():
    """Two arms that rise together: the pairs differ by 0.02, whatever the seed."""
    first, second = runs(0.90, 0.93, 0.96), runs(0.88, 0.91, 0.94, 0.5, arm="d2l")
    found = records.difference(first, second[::-1], KEY)
    assert found.values == pytest.approx([0.02] * 3) and found.sign == 1
    assert records.difference(second, first, KEY).sign == -1
    with pytest.raises(ValueError, match="no seed in common"):
        records.difference(first[:1], second[1:], KEY)


@pytest.mark.parametrize(
    "device, configuration, words",
    [
        ({"type": "cuda"}, {}, "cpu, fp32, 96×96, 2 epochs – cuda, fp32, 96×96, 2 ep"),
        ({"precision": "bf16-mixed"}, {}, "cpu, fp32, .* – cpu, bf16, 96×96"),
        ({}, {"data": {"resize": [64, 64]}}, "96×96, 2 epochs – .*64×64, 2 epochs"),
        ({}, {"max_epochs": 3}, "2 epochs – .* 3 epochs"),
    ],
)
def test_unlike_conditions_are_refused_and_both_named(device, configuration, words):
    changes = {"configuration": RECORD["configuration"] | configuration}
    theirs = runs(0.7, 0.6, arm="d2l", device=DEVICE | device, **changes)
    with pytest.raises(ValueError, match=f"^not comparable: .*{words}"):
        records.difference(runs(0.9, 0.8), theirs, KEY)


def test_precisions_arms_configurations_and_repeated_seeds_are_not_mixed():
    ours, bf16 = runs(0.9, 0.8), DEVICE | {"precision": "bf16-mixed"}
    with pytest.raises(ValueError, match="not comparable: .*fp32.* – .*bf16"):
        records.summarise([*ours, record(seed=2, device=bf16)], KEY)
    other = {"arm": "d2l"}, {"configuration": {}}, {"seed": 0}
    for mixed in ([], *([*ours, record(seed=2) | changes] for changes in other)):
        with pytest.raises(ValueError, match="^not one arm with one run a seed"):
            records.summarise(mixed, KEY)


def folded(arm, *scores):
    """A run a seed, each with the scores of its folds."""
    rest = {"inner_rmse": 1, "settings": {}, "seconds": 1}
    changes = {"arm": arm, "configuration": {"data": {"num_folds": 5}}}
    folds = [[rest | {"rmse": score} for score in of_seed] for of_seed in scores]
    return [record(seed=i, folds=f, rmse=1, **changes) for i, f in enumerate(folds)]


def test_folds_are_compared_by_nadeau_and_bengios_interval_by_hand():
    first, second = folded("a", [2, 3, 3, 5, 4], [2, 3, 5, 5, 8]), folded("b", [1] * 5)
    found = records.difference(first, second, "rmse")  # means of seeds: 2, 3, 4, 5, 6
    assert found.values == [1, 2, 3, 4, 5]
    # s² = 2.5; n = 5; a fold has 1/4 test row a training row; t with 4 degrees: 2.7764.
    half = 2.7764 * math.sqrt(2.5 * (1 / 5 + 1 / 4))
    assert found.interval == pytest.approx((3 - half, 3 + half), abs=1e-4)
    # The same in two rounds.
    first, second = folded("a", [2, 3, 4, 5, 6] * 2), folded("b", [1] * 10)
    half = 2.2622 * math.sqrt(20 / 9 * (1 / 10 + 1 / 4))  # 9 degrees
    found = records.difference(first, second, "rmse")
    assert found.interval == pytest.approx((3 - half, 3 + half), abs=1e-4)
    with pytest.raises(ValueError, match="cpu, fp32, 2 × 5 folds – .* 1 × 5 folds"):
        records.difference(first, folded("b", [1] * 5), "rmse")


def test_seeds_that_divide_anew_have_folds_of_their_own():
    first, second = folded("a", [2, 3, 4], [5, 6, 7]), folded("b", [1] * 3, [1] * 3)
    for run in first + second:
        run["configuration"] = {"data": {"num_folds": 3}, "repeated": True}
    found = records.difference(first, second[:1], "rmse")
    assert found.values == [1, 2, 3]  # folds of the seed that both have
    found = records.difference(first, second, "rmse")
    assert found.values == [1, 2, 3, 4, 5, 6]
    half = 2.5706 * math.sqrt(3.5 * (1 / 6 + 1 / 2))  # 5 degrees
    assert found.interval == pytest.approx((3.5 - half, 3.5 + half), abs=1e-4)


def test_ten_rounds_of_ten_folds_as_published():
    """scikit-learn's "Statistical comparison of models using grid search".

    RBF against linear kernel: t = 0.750, p = 0.227 on one side, and the interval.
    """
    times = {-0.12: 1, -0.08: 2, -0.04: 10, 0: 53, 0.04: 29, 0.08: 4, 0.2: 1}
    values = [value for value, n in times.items() for _ in range(n)]
    found = records.Summary.of(values, overlap=10 / 90)
    assert found.p_value / 2 == pytest.approx(0.227, abs=5e-4)
    assert found.interval == pytest.approx((-0.016445, 0.036445), abs=1e-6)


def test_the_interval_of_folds_covers_a_known_truth():
    """Least squares against zero, of equal expected error: 5 rounds of 5 folds.

    With p features and n training rows, least squares' error is p / (n - p - 1) above
    the noise's; that of zero is the squared norm of the weights.
    """
    rng, weight, covered = np.random.default_rng(0), (1 / (40 - 20 - 1)) ** 0.5, []
    for _ in range(120):
        X = rng.normal(size=(50, 20))
        y = X.sum(axis=1) * weight + rng.normal(size=50)
        parts = np.stack([rng.permutation(50) // 10 for _ in range(5)])
        test = np.concatenate([parts == fold for fold in range(5)])  # (25, 50) rows
        gram = np.einsum("fr,ri,rj->fij", ~test, X, X)
        fitted = np.linalg.solve(gram, (~test * y @ X)[..., None])[..., 0]
        gaps = (((fitted @ X.T - y) ** 2 - y**2) * test).sum(axis=1) / 10
        covered.append([records.Summary.of(gaps, o).sign == 0 for o in (0, 1 / 4)])
    student, corrected = np.mean(covered, axis=0)
    assert student < 0.75 and 0.93 < corrected < 0.99


# Words


def test_holms_correction_by_hand():
    found = records.holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert records.holm([0.6, 0.7]) == [1, 1] and records.holm([]) == []


def test_a_verdict_says_what_was_decided():
    def said(*values, better=1):
        return records.verdict(records.Summary.of(values), "A", "B", better)

    words = "+0.0303 (95 % interval +0.0289 to +0.0318, n = 3): A is ahead"
    assert said(0.03, 0.03, 0.031) == words
    assert said(0.03, 0.03, 0.031, better=-1).endswith("B is ahead")
    undecided = "undecided, differences of up to 0.1271 remain possible"
    assert said(0.01, -0.01).endswith(undecided)
    assert said(0.1) == "+0.1000 from one pair: a first estimate, without an interval"
    # An end that four digits would show as zero gets more.
    gap = records.Summary([0.0068] * 3, 0.0068, 0.0027, (0.00004, 0.01356))
    assert "interval +0.00004 to +0.01356" in records.verdict(gap, "A", "B")


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A function that puts runs where records are read from."""
    load = records.load
    monkeypatch.setattr(records, "load", lambda *a: load(*a, folder=tmp_path))
    return lambda runs: [records.write(run, tmp_path) for run in runs]


ARMS = {"A": ("densenet", "ours"), "B": ("densenet", "d2l"), "C": ("densenet", "new")}


def test_arms_are_compared_on_each_device(recorded):
    recorded(runs(0.9, 0.8) + runs(0.8, 0.7, arm="d2l"))
    recorded(runs(0.9, device=DEVICE | {"type": "cuda"}))
    gaps = records.compare("A", "B", ARMS)
    assert list(gaps) == ["cpu"] and gaps["cpu"].sign == 1
    assert gaps["cpu"].values == pytest.approx([0.1, 0.1])
    assert records.compare("A", "C", ARMS) == {}


def test_arms_of_other_precisions_are_named_and_not_compared(recorded):
    bf16 = DEVICE | {"precision": "bf16-mixed"}
    recorded(runs(0.9, 0.8) + runs(0.8, arm="d2l", device=bf16))
    words = "not comparable: cpu, fp32, 96×96, 2 epochs – cpu, bf16, 96×96, 2 epochs"
    with pytest.raises(ValueError, match=words):
        records.compare("A", "B", ARMS)


def test_a_smaller_error_is_better(recorded):
    recorded(folded("ours", [1, 1, 1.1, 1, 1]) + folded("d2l", [2, 2, 2, 2.1, 2]))
    gap = records.compare("A", "B", ARMS, "rmse")["cpu"]
    assert records.verdict(gap, "A", "B", -1).endswith("n = 5): A is ahead")


def test_what_is_written_can_be_read_and_a_record_has_its_hash(tmp_path):
    place = records.write(record(figures={2: 0.5, 10: 0.6}), tmp_path)
    records.write(json.loads(place.read_text()) | {"note": "again"}, tmp_path)
    assert records.load("densenet", folder=tmp_path)[0]["note"] == "again"
    place.write_text(json.dumps(record()))
    with pytest.raises(ValueError, match="it was changed since it was written"):
        records.load("densenet", folder=tmp_path)


def test_other_sales_and_other_numbers_of_processes_are_not_compared():
    few, many = (folded("a", [1] * 5)[0] | {"errors": [0.0] * n} for n in (3, 4))
    one, two = record(), record(device=DEVICE | {"processes": 2})
    for first, second, key in ((few, many, "rmse"), (one, two, "seed")):
        with pytest.raises(ValueError, match="^not comparable: .*(4 sales|2 process)"):
            records.difference([first], [second], key)
