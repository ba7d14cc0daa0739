"""The stock model: made once, read afterwards, made anew where the file is no good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wb.data import Dataset
from wb.models.model import load, save
from wb.spaces.stock import Stock
from wb.training.fit import Recipe
from wb.training.train import train


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("wb.spaces.stock.RECIPE", Recipe(epochs=2))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def epochs(stock: Stock) -> tuple[str, list[int]]:
    """The fingerprint of the model, and the epochs that were trained for it."""
    told: list[int] = []
    model = stock(lambda epoch, of, loss: told.append(epoch))
    assert model.architecture == stock.architecture
    return model.fingerprint(), told


def test_it_is_trained_once(stripes: Dataset, tmp_path: Path) -> None:
    stock = Stock(stripes, folder=tmp_path / "new")
    first, told = epochs(stock)
    assert told == [1, 2]
    assert [path.name for path in (tmp_path / "new").iterdir()] == [stock.path.name], "no checkpoint is left"
    assert load(stock.path).fingerprint() == first
    assert epochs(Stock(stripes, folder=tmp_path / "new")) == (first, [])


def test_a_file_that_is_no_good_is_made_anew(stripes: Dataset, tmp_path: Path) -> None:
    stock = Stock(stripes, folder=tmp_path)
    first, _ = epochs(stock)
    whole = stock.path.read_bytes()
    stock.path.write_bytes(whole[: len(whole) // 2])
    assert epochs(stock) == (first, [1, 2])
    other = stock.architecture.with_labels(())
    save(replace(load(stock.path), architecture=other), stock.path, force=True)
    assert epochs(stock) == (first, [1, 2])


def test_an_interrupted_training_continues(stripes: Dataset, tmp_path: Path) -> None:
    first, _ = epochs(Stock(stripes, folder=tmp_path / "whole"))
    stock = Stock(stripes, folder=tmp_path / "halves")

    def stop(epoch: int, of: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stock(stop)
    assert not stock.path.exists()
    assert epochs(stock) == (first, [1, 2]), "how far it was is said at once"


def test_what_an_older_version_has_begun_is_begun_anew(stripes: Dataset, tmp_path: Path) -> None:
    first, _ = epochs(Stock(stripes, folder=tmp_path / "whole"))
    stock = Stock(stripes, folder=tmp_path / "older")
    checkpoint = stock.path.with_name(f"{stock.path.name}.checkpoint")
    train(stock.architecture, stock.data, Recipe(epochs=1), seed=stock.seed, checkpoint=checkpoint)
    assert checkpoint.exists()
    assert epochs(stock) == (first, [1, 2])
    assert not checkpoint.exists()


def test_the_name_has_what_determines_the_model(stripes: Dataset, tmp_path: Path) -> None:
    stock = Stock(stripes, folder=tmp_path)
    names = {stock.path, replace(stock, seed=1).path, replace(stock, data=replace(stripes, fingerprint="1")).path}
    torch.set_num_threads(2)
    names.add(stock.path)
    assert len(names) == 4
    assert {path.parent for path in names} == {tmp_path}


def test_the_users_cache_is_the_default(stripes: Dataset) -> None:
    assert Stock(stripes).path.parent.name == "models"
    assert "wb" in Stock(stripes).path.parts
