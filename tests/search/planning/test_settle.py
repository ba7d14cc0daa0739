"""Settings that follow from the data."""

from __future__ import annotations

from typing import Any

import pytest

from wb.core.errors import BadOption
from wb.data import load
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.options import configured
from wb.search.planning.settle import check_retrain, settled


@pytest.mark.parametrize(
    ("spec", "given", "retrains"),
    [
        ("digits", {}, False),
        ("digits", {"retrain": True}, True),
        ("listops", {}, True),
        ("listops", {"retrain": False}, False),
        ("lm,length=32", {}, False),
    ],
)
def test_the_front_is_trained_once_more_where_texts_have_classes(
    spec: str, given: dict[str, Any], retrains: bool
) -> None:
    data = load(spec, limit=30)
    config = settled(SearchConfig.model_validate({"data": spec, **given}), data)
    check_retrain(config, data)
    assert (config.retrain, config.retrains) == (retrains, retrains)
    assert ("retrain" in config.wanted) == retrains
    none = settled(SearchConfig.model_validate({"data": spec, "finetune": 0, **given}), data)
    assert (none.retrain, none.retrains) == (retrains, False), "a search that goes on with --finetune has its default"


def test_what_there_is_nothing_to_train_of_once_more_is_refused() -> None:
    with pytest.raises(BadOption, match="--retrain is for examples with labels"):
        check_retrain(SearchConfig(retrain=True), load("lm,length=32", limit=30))
    with pytest.raises(BadOption, match="--finetune 0 fine-tunes none"):
        configured({"retrain": True, "finetune": 0})
