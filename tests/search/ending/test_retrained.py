"""What is delivered of a front: what was trained once more, unless its graph is not what it has to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading
from wb.data import Dataset
from wb.export.counting.count import count_model
from wb.export.graph import export
from wb.jobs.inputs import about
from wb.models.model import Model, Step
from wb.models.passes.mirror import Mirror
from wb.search.ending.retrained import Delivered, Retraining
from wb.search.ending.tuner import Wanted, Who
from wb.search.ending.twins import Made
from wb.search.run import Run
from wb.training.fit import TrainingDiverged

ACC = Reading(value=0.9, unit="fraction", how="measured", note="few images")
MS = Reading(value=1.0, unit="ms", how="measured")
AGAIN = Step(name="finetune", arguments={"trained_on": "training and validation"})


def write(model: Model, path: Path) -> None:
    export(model, path, force=True)


class Known:
    """A tuner that has trained before."""

    def __init__(self, model: Model) -> None:
        self.model, self.asked, self.diverges = model, dict[str, Wanted](), False

    def ahead(self, wanted: Mapping[str, Wanted], _: Sequence[Path]) -> list[str]:
        self.asked |= wanted
        return []

    def __call__(self, _: str, __: Wanted, ___: Sequence[Path]) -> Model:
        if self.diverges:
            raise TrainingDiverged("the loss is nan")
        return self.model


@pytest.fixture
def deliver(striped: Model, stripes: Dataset, tmp_path: Path) -> Callable[..., tuple[Known, dict[int, Delivered]]]:
    """Delivers a finalist and its twin; `room` is what the size of its file may grow by."""
    twin = Mirror()(striped)
    made = {3: Made(3, striped, tmp_path / "3.onnx", striped.architecture)}
    made[1003] = Made(3, twin, tmp_path / "1003.onnx", twin.architecture, mirrored=True)
    for one in made.values():
        write(one.model, one.path)
    readings = {n: {"acc": ACC, "latency": MS, **count_model(one.architecture, one.path)} for n, one in made.items()}

    def call(room: int, say: Callable[[str], None], *, diverges: bool = False) -> tuple[Known, dict[int, Delivered]]:
        weights = {name: 2 * weight for name, weight in striped.weights.items()}
        tuner: Any = Known(Model(striped.architecture, weights, (*striped.history, AGAIN)))
        tuner.diverges = diverges
        limit = Limit(METRICS["size"], readings[1003]["size"].value + room)
        again = Retraining(Run(tmp_path), tuner, stripes, "acc", [limit], 0, write, lambda *_: None, say)
        return tuner, again(made, readings, [1003, 3], {3: Who(None)})

    return call


def test_a_network_and_its_twin_are_trained_once_and_keep_what_they_were_judged_by(
    deliver: Callable[..., tuple[Known, dict[int, Delivered]]], striped: Model
) -> None:
    tuner, found = deliver(10_000, pytest.fail)
    assert tuner.asked == {"3": Wanted(striped.architecture, Who(None), whole=True)}
    for one, readings in found.values():
        assert readings["acc"].value == ACC.value
        assert readings["acc"].note == (
            "read before it was trained once more, on the validation images too; few images"
        )
        assert readings["latency"] == MS
        assert readings["size"].value == one.path.stat().st_size
        assert all(torch.equal(weight, 2 * striped.weights[name]) for name, weight in one.model.weights.items())
        assert AGAIN.arguments in [step.arguments for step in about(one.path)[1]]


def test_what_is_too_large_by_its_longer_history_stays_as_it_was_judged(
    deliver: Callable[..., tuple[Known, dict[int, Delivered]]], striped: Model
) -> None:
    said: list[str] = []
    _, found = deliver(0, said.append)
    assert len(said) == 1
    assert said[0].startswith("network 1003 is delivered as it was judged; trained once more, it has ")
    one, readings = found[1003]
    assert readings["acc"] == ACC
    assert readings["size"].value == one.path.stat().st_size
    assert all(torch.equal(weight, striped.weights[name]) for name, weight in one.model.weights.items())
    assert found[3].made.model.history[-1] == AGAIN, "it has room"


def test_what_does_not_learn_once_more_stays_as_it_was_judged(
    deliver: Callable[..., tuple[Known, dict[int, Delivered]]], striped: Model
) -> None:
    said: list[str] = []
    _, found = deliver(10_000, said.append, diverges=True)
    assert said == ["network 3 is delivered as it was judged; trained once more, the loss is nan"]
    for one, readings in found.values():
        assert readings["acc"] == ACC
        assert all(torch.equal(weight, striped.weights[name]) for name, weight in one.model.weights.items())
