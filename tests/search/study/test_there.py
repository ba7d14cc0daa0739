"""What a plan of a continuation leaves out."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import pytest
import torch

from wb.search.planning.plan import _finalists, _rungs, _search
from wb.search.planning.seconds import Costs, Size
from wb.search.planning.shares import FRONT, READ
from wb.search.run import Run
from wb.search.study.there import There, there

Fabricate = Callable[..., Run]


def test_what_is_there_is_counted_and_what_is_not_is_not(fabricate: Fabricate) -> None:
    run = fabricate(trials=20, finished=False)
    config = run.read().config
    assert there(run, config) == There(0, 20, 0, False)
    torch.save({"epoch": 7}, run.checkpoint_path)
    assert there(run, config).epochs == 7
    run.checkpoint_path.write_bytes(b"damaged")
    assert there(run, config).epochs == 0
    run.supernet_path.touch()
    assert there(run, config).epochs == config.epochs
    run.staging.mkdir()
    for name in ("3.onnx", "3.safetensors", "5.onnx"):
        (run.staging / name).touch()
    assert there(run, config).finalists == 2
    assert there(run, config.model_copy(update={"finetune": 1})).finalists == 0, "they were fine-tuned otherwise"


def test_only_the_front_that_is_asked_for_is_there(fabricate: Fabricate) -> None:
    run = fabricate()
    record = run.read()
    config = record.config
    run.write(record.model_copy(update={"finished": {"trials": 24, "finetune": config.finetune}}))
    assert there(run, config) == There(0, 24, 0, True)
    assert there(run, config.model_copy(update={"trials": 30})) == There(0, 24, 0, False)


def test_the_stages_say_and_take_what_is_left(fabricate: Fabricate) -> None:
    config = fabricate().read().config
    assert "all 24 evaluations are there" in _search(config, There(evaluations=24), 9, 2, "")
    half = _search(config, There(evaluations=23), 9, 2, "")
    assert half.startswith("1 evaluation by 'guided' over 9 choices; 23 of 24 are there")
    costs = Costs(alone=1, sandwich=1, tune=0.05, teach=0, evaluation=1, timing=1, score=1)
    assert _finalists(config, There(front=True), costs, Size(10, 10, 10)) == ("finalists", "the front is there", 0.0)
    whole, some = (_finalists(config, There(finalists=n), costs, Size(10, 10, 10)) for n in (0, 2))
    assert whole.seconds - some.seconds == pytest.approx(2 * config.finetune * 10 * 0.05)
    assert "2 made already" in some.what
    size, again = Size(10, 10, 10, again=1.5), config.model_copy(update={"retrain": True})
    more, less = (_finalists(again, There(finalists=n), costs, size) for n in (0, 2))
    assert "those of the front once more, on validation examples too" in more.what
    count = whole.seconds / (config.finetune * 10 * 0.05 + READ)
    assert more.seconds - whole.seconds == pytest.approx(1.5 * ceil(FRONT * round(count)) * config.finetune * 10 * 0.05)
    assert more.seconds - less.seconds == pytest.approx(whole.seconds - some.seconds), "all are to be trained once more"


def test_candidates_that_are_trained_alone_already_are_left_out(fabricate: Fabricate) -> None:
    config = fabricate().read().config.model_copy(update={"rungs": "12x1,4x3"})
    costs, size = Costs(alone=0, sandwich=0, tune=1, teach=0, evaluation=0, timing=0, score=0), Size(1, 1, 1)
    (whole,), (some,) = (_rungs(config, There(climbed=done), costs, size) for done in ({}, {1: 12, 3: 1}))
    assert whole == ("rungs", "12 candidates alone for 1 epoch, then 4 candidates alone for 3 epochs", 24.0)
    assert some == ("rungs", "3 candidates alone for 3 epochs", 9.0)
    assert _rungs(config, There(climbed={1: 12, 3: 4}), costs, size)[0].seconds == 0
    assert _rungs(config.model_copy(update={"rungs": "none"}), There(), costs, size) == []
