"""Exercise 5: does a dense MLP earn its place on house prices?

In each of five folds, every arm draws as many settings at random (the same in every
fold), keeps those with the smallest error in an inner cross-validation of the training
rows, and is then fitted to all of these, from each seed. The error is the root mean
squared error of the log price (rmse), averaged over the folds.

`housing_depth`: 1, 2, 4 or 8 layers of as many parameters, whose outputs are
concatenated (dense), added (residual), or neither (plain). A fold draws its own
settings, the same for all arms.

`housing_repeated`: the first comparison again, with a smaller search; here each seed
also divides the sales anew, so that there are more folds to compare.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from d2l import torch as d2l
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Lasso, Ridge
from sklearn.model_selection import KFold

from d2l_dense import AmesHousing, Trainer, one_cycle, records
from d2l_dense.files import replace_file
from experiments.networks import perceptron
from experiments.training import Run

# `draw` explains what the values mean.
MLP = {
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
SPACES = {arm: MLP for arm in ("dense_mlp", "plain_mlp", "residual_mlp", "stem_mlp")}
SPACES |= {
    "linear": MLP | {"num_layers": [0], "dropout": [0.0]},
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
COMPARED = {
    arm: {
        "space": space,
        "trials": 10,
        "inner_folds": 3,
        "data": {"batch_size": 64 if arm == "d2l_linear" else 128, "num_folds": 5},
        "max_epochs": {"d2l_linear": 10}.get(arm, 40 if "beta" in space else None),
    }
    for arm, space in SPACES.items()
}
# Of the dense MLPs that `housing` chose, the median has 6,491 parameters.
BUDGET = {"parameters": [6500]}
OPTIONS = {name: MLP[name] for name in ("lr", "penalty", "beta", "dropout")}
DEPTHS = {
    f"{kind}_{depth}": {
        "space": {"num_layers": [depth], **BUDGET, **OPTIONS},
        "trials": 6,
        "inner_folds": 2,
        "data": {"batch_size": 128, "num_folds": 5},
        "max_epochs": 30,
    }
    for kind in ("dense", "residual", "plain")
    for depth in (1, 2, 4, 8)
}
REPEATED = {
    arm: {**COMPARED[arm], "trials": 6, "inner_folds": 2, "repeated": True}
    for arm in COMPARED
    if arm not in ("stem_mlp", "d2l_linear")
}
ARMS = {
    "housing": COMPARED,
    "housing_kaggle": COMPARED,
    "housing_depth": DEPTHS,
    "housing_repeated": REPEATED,
}
ESTIMATORS = {
    "ridge": Ridge,
    "lasso": partial(Lasso, max_iter=100_000),
    "gradient_boosting": GradientBoostingRegressor,
}


def execute(run: Run) -> records.Record:
    """Search and fit one arm in every fold; return what one seed gives."""
    configuration = ARMS[run.experiment][run.arm]
    source = "kaggle" if run.experiment == "housing_kaggle" else "ames"
    division = run.seed if configuration.get("repeated") else 0
    data = AmesHousing(source=source, seed=division, **configuration["data"])
    # What the searches have found: for other seeds, and if this run is cut short.
    name = f"{run.experiment}-{run.arm}-{division}-{run.device}-search.json"
    file = run.checkpoints / name
    saved = json.loads(file.read_text("utf-8")) if file.exists() else {}
    fabric = Trainer(accelerator=run.device).fabric
    saved = fabric.broadcast(saved)  # what the first process has found
    searched = saved["folds"] if saved.get("configuration") == configuration else []
    errors, folds, histories = np.empty(len(data.features)), [], []
    for i, (train_rows, val_rows) in enumerate(data.folds()):
        if i == len(searched):
            same = ARMS[run.experiment] is COMPARED  # the same settings in every fold
            seed = 0 if same else data.num_folds * division + i
            searched.append(search(run, data, train_rows, seed))
            saved = {"configuration": configuration, "folds": searched}
            replace_file(file, json.dumps(saved).encode())
        start = time.perf_counter()
        part = data.part(train_rows, val_rows)
        predict, history, size = fit(run, searched[i]["settings"], part, run.seed)
        found = predict(data.features.iloc[val_rows])
        errors[val_rows] = found - data.log_prices[val_rows]
        seconds = time.perf_counter() - start
        rmse = float(np.mean(errors[val_rows] ** 2) ** 0.5)
        folds.append(
            {"rmse": rmse, **searched[i], "parameters": size, "seconds": seconds}
        )
        for row in history:
            row["val_rmse"] = part.std * row.pop("val_mse", row["val_loss"]) ** 0.5
        histories += history or [{"epoch": 1, "seconds": seconds}]
    epochs = pd.DataFrame(histories).groupby("epoch", as_index=False).mean()
    epochs["seconds"] *= len(folds)
    return {
        "configuration": configuration,
        "seconds": sum(fold["seconds"] for fold in folds),
        "history": epochs.to_dict("records"),
        "rmse": float(np.mean([fold["rmse"] for fold in folds])),
        "folds": folds,
        "errors": errors.round(5).tolist(),
    }


def submit(path: Path, device: str) -> None:
    """Tune and train the dense MLP on all of Kaggle's sales; write a submission."""
    run = Run("housing_kaggle", "dense_mlp", 0, device, path.parent)
    data = AmesHousing(source="kaggle", **COMPARED["dense_mlp"]["data"])
    rows = np.arange(len(data.features))
    settings = search(run, data, rows)["settings"]
    logs = []
    for seed in (0, 1, 2):
        predict, *_ = fit(run, settings, data.part(rows, rows[:0]), seed)
        logs.append(predict(data.test_features))
    prices = np.exp(np.mean(logs, axis=0))
    if not (np.isfinite(prices) & (prices > 0)).all():
        raise ValueError("a predicted price is not a finite number above 0")
    table = pd.DataFrame({"Id": data.test_features.index, "SalePrice": prices.round(2)})
    replace_file(path, table.to_csv(index=False).encode())


def search(
    run: Run, data: AmesHousing, rows: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """Choose settings by cross-validation within some rows; no other row is seen."""
    start = time.perf_counter()
    configuration = ARMS[run.experiment][run.arm]
    random = np.random.default_rng(seed)
    inner = KFold(configuration["inner_folds"], shuffle=True, random_state=0)
    parts = [(data.part(rows[a], rows[:0]), rows[b]) for a, b in inner.split(rows)]
    trials = []
    for _ in range(configuration["trials"]):
        settings = draw(configuration["space"], random)
        errors = []
        for part, val in parts:
            predict, *_ = fit(run, settings, part, seed=0)
            errors.extend(predict(data.features.iloc[val]) - data.log_prices[val])
        score = float(np.mean(np.square(errors)) ** 0.5)
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


def fit(
    run: Run, settings: dict[str, Any], data: AmesHousing, seed: int
) -> tuple[Callable[[pd.DataFrame], np.ndarray], list[dict[str, float]], int | None]:
    """Fit an arm; return how it predicts log prices, its history (if any), its size."""
    if run.arm in ESTIMATORS:
        random = {"random_state": seed} if run.arm == "gradient_boosting" else {}
        model = ESTIMATORS[run.arm](**settings, **random)
        X, Y = (tensor.numpy() for tensor in data.train)
        model.fit(X, Y[:, 0])

        def predict(features: pd.DataFrame) -> np.ndarray:
            found = model.predict(data.inputs(features).numpy())
            return found.astype(float) * data.std + data.mean

        return predict, [], model.coef_.size + 1 if hasattr(model, "coef_") else None

    torch.manual_seed(seed)  # of the initial weights
    if run.arm == "d2l_linear":
        net, schedule = d2l.LinearRegression(**settings), None
    else:
        net, schedule = perceptron(run.arm, data.num_inputs, settings), one_cycle
    max_epochs = ARMS[run.experiment][run.arm]["max_epochs"]
    quiet = {"accelerator": run.device, "precision": "32-true", "progress": False}
    trainer = Trainer(max_epochs, schedule=schedule, seed=seed, **quiet)
    torch.set_flush_denormal(True)  # weights that the penalty silences are slow
    history = trainer.fit(net, data)
    torch.set_flush_denormal(False)
    return partial(data.predict, net), history, sum(p.numel() for p in net.parameters())
