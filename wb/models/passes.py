"""A pass turns a model into a model; `apply` runs one and checks that it kept its promises."""

from __future__ import annotations

from typing import Protocol

import torch

from wb.core.errors import WbError
from wb.models.model import Model
from wb.models.network import describe


class PassBroken(WbError, RuntimeError):
    """A pass broke a promise; this is a mistake of the pass, not of its user."""


class Pass(Protocol):
    """A frozen dataclass whose fields are its configuration, e.g. `wb.training.train.Finetune`.

    It promises never to change its input, and to add to the history what it did.
    """

    def __call__(self, model: Model, /) -> Model:
        """The new model."""
        ...


def apply(step: Pass, model: Model) -> Model:
    """What `step` makes of `model`, checked: input untouched, history longer, weights finite and those of the architecture.

    Raises:
        PassBroken: a promise was broken; says which, and by which pass.
        BadArtefact: the weights do not fit the architecture.
    """
    name = type(step).__name__
    # torch counts changes in place; comparing counts costs nothing, comparing weights a second copy of the model.
    versions = {key: weight._version for key, weight in model.weights.items()}
    result = step(model)
    if {key: weight._version for key, weight in model.weights.items()} != versions:
        raise PassBroken(f"pass {name} changed the weights of its input; it has to work on a copy")
    check(name, model, result)
    return result


def check(name: str, model: Model, result: Model) -> None:
    """Raises `PassBroken` unless `result` is what pass `name` may make of `model`; what `apply` does afterwards."""
    if len(result.history) <= len(model.history) or result.history[: len(model.history)] != model.history:
        raise PassBroken(f"pass {name} did not add to the history; end it with `model.then(Step(...))`")
    broken = [key for key, weight in result.weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise PassBroken(f"pass {name} left NaN or infinite numbers in {len(broken)} weights, first in {broken[0]}")
    described = describe(result.network())
    if described != result.architecture:
        raise PassBroken(
            f"pass {name} gave architecture {result.architecture.key}, but its weights are of {described.key}"
        )
