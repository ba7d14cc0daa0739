"""Passes: a pass makes a model from a model; `apply` runs one and checks its promises."""

from __future__ import annotations

from typing import Protocol

import torch

from wb.core.errors import WbError
from wb.models.model import Model
from wb.models.network import describe


class PassBroken(WbError, RuntimeError):
    """A pass broke a promise. The pass has a bug; its user did nothing wrong."""


class Pass(Protocol):
    """A frozen dataclass whose fields are its configuration, e.g. `wb.training.train.Finetune`.

    It promises never to change its input, and to add a step to the history.
    """

    def __call__(self, model: Model, /) -> Model:
        """The new model."""
        ...


def apply(step: Pass, model: Model) -> Model:
    """The result of a pass, checked: input unchanged, history longer, weights finite and of the result's architecture.

    Raises:
        PassBroken: a promise was broken; the message says which, and by which pass.
        BadArtefact: the weights do not fit the architecture.
    """
    name = type(step).__name__
    # torch counts in-place changes; comparing counts is free, comparing weights would need a second copy of the model.
    versions = {key: weight._version for key, weight in model.weights.items()}
    result = step(model)
    if {key: weight._version for key, weight in model.weights.items()} != versions:
        raise PassBroken(f"pass {name} changed the weights of its input; it has to work on a copy")
    check(name, model, result)
    return result


def check(name: str, model: Model, result: Model) -> None:
    """Raises `PassBroken` unless `result` is a valid result of pass `name` on `model`; the second half of `apply`."""
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
