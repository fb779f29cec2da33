"""What is known of a house: its columns, what they may hold, and as numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)


def _words(text: str) -> list[str]:
    return text.split()


NUMBERS = _words(
    "OverallQual OverallCond YearBuilt YearRemodAdd BsmtFullBath BsmtHalfBath "
    "FullBath HalfBath BedroomAbvGr KitchenAbvGr TotRmsAbvGrd Fireplaces "
    "GarageYrBlt GarageCars MoSold YrSold"
)
SIZES = _words(
    "LotFrontage LotArea MasVnrArea BsmtFinSF1 BsmtFinSF2 BsmtUnfSF TotalBsmtSF "
    "1stFlrSF 2ndFlrSF LowQualFinSF GrLivArea GarageArea WoodDeckSF OpenPorchSF "
    "EnclosedPorch 3SsnPorch ScreenPorch PoolArea MiscVal"
)
CATEGORIES = _words(
    "MSSubClass MSZoning Street Alley LandContour Utilities LotConfig Neighborhood "
    "Condition1 Condition2 BldgType HouseStyle RoofStyle RoofMatl Exterior1st "
    "Exterior2nd MasVnrType Foundation Heating CentralAir Electrical GarageType "
    "Fence MiscFeature SaleType SaleCondition"
)
_QUALITY = "Po Fa TA Gd Ex"
_FINISH = "Unf LwQ Rec BLQ ALQ GLQ"
GRADES = {  # from the worst to the best; what is missing is below them all
    **dict.fromkeys(_words("ExterQual ExterCond BsmtQual BsmtCond"), _QUALITY),
    **dict.fromkeys(_words("HeatingQC KitchenQual FireplaceQu"), _QUALITY),
    **dict.fromkeys(_words("GarageQual GarageCond PoolQC"), _QUALITY),
    **dict.fromkeys(_words("BsmtFinType1 BsmtFinType2"), _FINISH),
    "BsmtExposure": "No Mn Av Gd",
    "Functional": "Sal Sev Maj2 Maj1 Mod Min2 Min1 Typ",
    "GarageFinish": "Unf RFn Fin",
    "LotShape": "IR3 IR2 IR1 Reg",
    "LandSlope": "Sev Mod Gtl",
    "PavedDrive": "N P Y",
}
FEATURES = [*SIZES, *NUMBERS, *GRADES, *CATEGORIES]  # 79


def preprocessing() -> ColumnTransformer:
    """What turns the features into numbers; to be fitted to training rows alone.

    What is missing becomes the median of a number, and a value of its own of a
    grade or a category. Sizes are replaced by log(1 + size). Sizes, numbers and
    grades are standardized and cut off at 3 standard deviations, categories are
    one-hot. A category that no training row has is none of those known: zeros.
    """

    def scaled(*steps: object) -> Pipeline:
        return make_pipeline(*steps, StandardScaler(), step(_cut))

    def step(function: Callable[[np.ndarray], np.ndarray]) -> FunctionTransformer:
        return FunctionTransformer(function, feature_names_out="one-to-one")

    def fill(strategy: str, value: str | None = None) -> SimpleImputer:
        # A column that is empty in the training rows stays, as a constant.
        return SimpleImputer(
            strategy=strategy, fill_value=value, keep_empty_features=True
        )

    grades = [["none", *scale.split()] for scale in GRADES.values()]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    ordinal = OrdinalEncoder(categories=grades)
    return ColumnTransformer(
        [
            ("sizes", scaled(fill("median"), step(np.log1p)), SIZES),
            ("numbers", scaled(fill("median")), NUMBERS),
            ("grades", scaled(fill("constant", "none"), ordinal), list(GRADES)),
            (
                "categories",
                make_pipeline(fill("constant", "none"), one_hot),
                CATEGORIES,
            ),
        ]
    )


def _cut(X: np.ndarray) -> np.ndarray:
    return np.clip(X, -3, 3)


def _word(value: object) -> str:
    """20, 20.0 and " 20" are one category: a column with a gap is read as floats."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def check_sales(
    frame: pd.DataFrame, name: str | Path, priced: bool = True
) -> pd.DataFrame:
    """Return the features, in our order, and the price; words as text, stripped.

    Raises:
        ValueError: if a column is missing, or a value cannot be; it names both.
    """
    columns = [*FEATURES, *["SalePrice"] * priced]
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}")
    frame = frame[columns].copy()
    for column in columns:
        values, words = frame[column], column in GRADES or column in CATEGORIES
        if words:
            frame[column] = [v if pd.isna(v) else _word(v) for v in values]
            frame[column] = frame[column].astype(object)
        else:
            frame[column] = pd.to_numeric(values, errors="coerce").astype(float)
        if column in GRADES:
            possible = values.isna() | frame[column].isin(GRADES[column].split())
        elif column == "SalePrice":
            possible = frame[column].between(0, np.inf, inclusive="neither")
        else:
            fits = words or frame[column].between(0, np.inf, inclusive="left")
            possible = values.isna() | fits
        if not possible.all():
            row = int(np.argmin(possible))
            raise ValueError(
                f"{name}: sale {row + 1} has {column}={values.iloc[row]}, "
                "which cannot be"
            )
    return frame
