"""Settings that follow from the data."""

from __future__ import annotations

import pytest

from wb.core.errors import BadOption
from wb.data import load
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.options import configured
from wb.search.planning.settle import check_retrain


def test_the_front_is_trained_once_more_if_it_was_fine_tuned() -> None:
    asked = SearchConfig(retrain=True)
    assert (asked.retrains, asked.model_copy(update={"finetune": 0}).retrains) == (True, False)
    assert "retrain" in asked.wanted
    assert "retrain" not in SearchConfig().wanted


def test_what_there_is_nothing_to_train_of_once_more_is_refused() -> None:
    with pytest.raises(BadOption, match="--retrain is for examples with labels"):
        check_retrain(SearchConfig(retrain=True), load("lm,length=32", limit=30))
    with pytest.raises(BadOption, match="--finetune 0 fine-tunes none"):
        configured({"retrain": True, "finetune": 0})
