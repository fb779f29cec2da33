"""A random search for settings, by cross-validation within the training rows."""

import time
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from d2l_dense import AmesHousing
from experiments.regressors import fit


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
