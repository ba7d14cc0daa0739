"""When histories say that two models come from one, and when they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from pydantic import JsonValue

from wb.core.measures.readings import Reading
from wb.fusion.match.ancestry import IN_PLACE, related
from wb.models.model import Model, Step

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


def step(name: str, how: str = "", acc: float = 0.0, **arguments: JsonValue) -> Step:
    readings: Mapping[str, Reading] = (
        {"acc": Reading.model_validate({"value": acc, "unit": "fraction", "how": how})} if how else {}
    )
    return Step(name=name, arguments=arguments, readings=readings)


TRAINED = step("train", architecture="k")
OLD = (step("train"), step("score", "measured", 0.9))
DROP, TUNE = step("drop", dropped={"s0.b1.ffn": 0.1}), step("finetune")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((TRAINED,), (TRAINED, DROP, TUNE), True),
        ((TRAINED, TUNE), (TRAINED, DROP), True),
        (OLD, (*OLD, step("prune nvit"), TUNE), True),
        ((TRAINED,), (TRAINED, step("fuse", parents=["a", "b"])), True),
        ((TRAINED, step("fuse", parents=["a", "b"])), (TRAINED, step("fuse", parents=["a", "c"])), True),
        ((), (), False),
        ((TRAINED,), (), False),
        ((TRAINED,), (step("train", architecture="other"), DROP), False),
        ((step("train"),), (step("train"), DROP), False),  # the same seed says nothing of the architecture
        ((step("train"), step("score", "counted")), (step("train"), step("score", "counted"), DROP), False),
        (OLD, (step("train"), step("score", "measured", 0.8), DROP), False),
        ((step("extract", space="tiny"), TUNE), (step("extract", space="tiny"), TUNE), False),  # of any supernet
        ((TRAINED,), (TRAINED, step("fuse", parents=["a"], target="k")), False),
        ((TRAINED,), (TRAINED, step("somebody's pass")), False),
    ],
)
def test_related(kit: Kit, one: tuple[Step, ...], other: tuple[Step, ...], expected: bool) -> None:
    model = kit.model()
    pair = [Model(model.architecture, model.weights, history) for history in (one, other)]
    assert related(*pair) == related(*pair[::-1]) == expected


def test_models_with_other_places_for_blocks_are_not(kit: Kit) -> None:
    one, two = (kit.model(kit.network((kit.softmax,) * depth)) for depth in (2, 3))
    assert not related(one.then(TRAINED), two.then(TRAINED))


def test_every_pass_of_the_workbench_is_known() -> None:
    """Those that begin a history are not among them."""
    assert {"drop", "prune nvit", "compensate", "finetune", "hash", "low bits", "quantize"} <= IN_PLACE
    assert not IN_PLACE & {"train", "extract"}
