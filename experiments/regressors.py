"""What exercise 5 compares: networks and estimators, and one way to fit each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from d2l import torch as d2l
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Lasso, Ridge
from torch import Tensor, nn

from d2l_dense import AmesHousing, DenseMLP, Trainer, one_cycle

ESTIMATORS = {
    "ridge": Ridge,
    "lasso": partial(Lasso, max_iter=100_000),
    "gradient_boosting": GradientBoostingRegressor,
}
Predict = Callable[[pd.DataFrame], np.ndarray]


class MLP(d2l.Module):
    """A perceptron of one width, plain or residual, to compare with `DenseMLP`.

    A residual one compresses the input linearly, then adds to it layer by layer.

    Shape: (N, num_inputs) -> (N, 1)
    """

    def __init__(
        self,
        num_inputs: int,
        width: int,
        num_layers: int,
        *,
        residual: bool,
        lr: float,
        dropout: float,
        weight_decay: float,
        l1: float,
        beta: float,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.stem = nn.Linear(num_inputs, width) if residual else nn.Identity()
        self.layers = nn.ModuleList()
        for i in range(num_layers):
            linear = nn.Linear(width if i or residual else num_inputs, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            self.layers.append(nn.Sequential(linear, nn.ReLU(), nn.Dropout(dropout)))
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, X: Tensor) -> Tensor:
        X = self.stem(X)
        for layer in self.layers:
            X = X + layer(X) if self.residual else layer(X)  # (N, width)
        return self.head(X)

    # Trained as a DenseMLP is, so that a comparison is of networks alone.
    loss = DenseMLP.loss
    validation_step = DenseMLP.validation_step
    training_step = DenseMLP.training_step
    configure_optimizers = DenseMLP.configure_optimizers


def dense_parameters(d: int, k: int, num_layers: int) -> int:
    """Parameters of a dense MLP of one block: layer i reads d + (i - 1) k features."""
    layers = sum((d + i * k + 1) * k for i in range(num_layers))
    return layers + d + num_layers * k + 1


def network(arm: str, num_inputs: int, settings: dict[str, Any]) -> d2l.Module:
    """Make the network of an arm.

    All that are compared have as nearly the dense MLP's number of parameters as
    their width allows. What is not in the settings is `DenseMLP`'s default.
    """
    if arm == "d2l_linear":
        return d2l.LinearRegression(**settings)
    options, d = dict(settings), num_inputs
    k, n = options.pop("growth_rate"), options.pop("num_layers")
    size = {"growth_rate": k, "arch": (n,) if n else ()}
    if arm in ("dense_mlp", "linear"):
        return DenseMLP(d, **size, **options)
    residual, target = arm == "residual_mlp", dense_parameters(d, k, n)

    def parameters(width: int) -> int:
        if arm == "stem_mlp":
            return (d + 1) * width + dense_parameters(width, k, n)
        squares = n if residual else n - 1
        return (d + 1) * width + squares * (width + 1) * width + width + 1

    width = min(range(1, 257), key=lambda width: abs(parameters(width) - target))
    if arm == "stem_mlp":
        return DenseMLP(d, **size, **options, stem=width)
    return MLP(d, width, n, residual=residual, **options)


def fit(
    arm: str,
    settings: dict[str, Any],
    data: AmesHousing,
    seed: int,
    max_epochs: int | None,
    device: str,
) -> tuple[Predict, list[dict[str, float]], int | None]:
    """Fit an arm to the training rows of the data.

    Returns a function from features to log prices, the history (empty where there
    are no epochs), and the number of parameters.
    """
    if arm in ESTIMATORS:
        random = {"random_state": seed} if arm == "gradient_boosting" else {}
        model = ESTIMATORS[arm](**settings, **random)
        X, Y = (tensor.numpy() for tensor in data.train)
        model.fit(X, Y[:, 0])

        def predict(features: pd.DataFrame) -> np.ndarray:
            found = model.predict(data.inputs(features).numpy())
            return found.astype(float) * data.std + data.mean

        linear = hasattr(model, "coef_")
        return predict, [], model.coef_.size + 1 if linear else None

    torch.manual_seed(seed)  # of the initial weights
    net = network(arm, data.num_inputs, settings)
    trainer = Trainer(
        max_epochs,
        schedule=None if arm == "d2l_linear" else one_cycle,
        seed=seed,
        accelerator=device,
        precision="32-true",
        progress=False,
    )
    torch.set_flush_denormal(True)  # weights that the penalty silences are slow
    try:
        history = trainer.fit(net, data)
    finally:
        torch.set_flush_denormal(False)
    size = sum(p.numel() for p in net.parameters())
    return lambda features: data.predict(net, features), history, size
