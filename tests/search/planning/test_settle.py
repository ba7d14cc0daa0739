"""Settings that follow from the data."""

from __future__ import annotations

import pytest

from wb.core.errors import BadOption
from wb.data import load
from wb.data.texts.split import Texts
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.options import configured
from wb.search.planning.settle import RETRAINED, check_retrain, retrained


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


def test_fronts_of_few_texts_are_trained_once_more_in_a_given_time_if_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts, images = load("listops", limit=60), load("digits", limit=60)
    timed = SearchConfig(space="text", time="15min")
    assert retrained(timed, texts, 2).retrain is True
    for config, data, hands in (
        (timed, texts, 1),
        (timed, images, 2),
        (timed, load("lm,length=32", limit=30), 2),
        (SearchConfig(space="text"), texts, 2),
        (SearchConfig(space="text", time="9min"), texts, 2),
        (SearchConfig(space="text", time="15min", finetune=0), texts, 2),
        (SearchConfig(space="text", time="15min", retrain=False), texts, 2),
    ):
        assert retrained(config, data, hands) == config
    monkeypatch.setattr(Texts, "__len__", lambda _: RETRAINED + 1)
    assert retrained(timed, texts, 2) == timed
