from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from wb.core.errors import BadArtefact
from wb.core.records import ImageInput
from wb.models.axes import Leading
from wb.models.model import Model, Step, from_network, remap_model
from wb.models.network import build
from wb.models.passes.base import PassBroken, apply, check
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

DONE = Step(name="done")


@pytest.fixture
def model(image: ImageInput) -> Model:
    architecture = Vit(TINY, image, 3).smallest()
    network = build(architecture)
    network.reset()
    return from_network(architecture, network, (Step(name="train"),))


def narrow(model: Model) -> Model:
    return remap_model(model, {"s0.embed": Leading(4)}).then(DONE)


def in_place(model: Model) -> Model:
    model.weights["head"].zero_()
    return model.then(DONE)


def forgetful(model: Model) -> Model:
    return replace(model, history=(DONE,))


def explosive(model: Model) -> Model:
    return replace(model, weights={**model.weights, "head": model.weights["head"] / 0}).then(DONE)


def test_a_pass_that_keeps_its_promises(model: Model) -> None:
    result = apply(narrow, model)
    assert result.architecture.stages[0].embed == 4
    assert [step.name for step in result.history] == ["train", "done"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (in_place, "pass function changed the weights of its input"),
        (forgetful, "did not add to the history"),
        (explosive, "left NaN or infinite numbers in 1 weights, first in head"),
    ],
)
def test_a_broken_promise_names_the_pass(model: Model, step: Callable[[Model], Model], words: str) -> None:
    with pytest.raises(PassBroken, match=words):
        apply(step, model)


def test_weights_of_another_architecture_are_refused(model: Model, image: ImageInput) -> None:
    def confused(model: Model) -> Model:
        return replace(model, architecture=Vit(TINY, image, 3).largest()).then(DONE)

    with pytest.raises(BadArtefact, match="weights do not fit the architecture"):
        apply(confused, model)
    torch.testing.assert_close(model.network().head, model.weights["head"], check_stride=False)


def test_check_is_what_apply_does_afterwards(model: Model) -> None:
    check("prune", model, narrow(model))
    for step in (forgetful, explosive):
        with pytest.raises(PassBroken, match="pass prune "):
            check("prune", model, step(model))
    with pytest.raises(PassBroken, match="pass prune did not add to the history"):
        check("prune", model, model)
    other = narrow(model)
    shortened = replace(other, history=(Step(name="another"), DONE))
    with pytest.raises(PassBroken, match="did not add to the history"):
        check("prune", model, shortened)
