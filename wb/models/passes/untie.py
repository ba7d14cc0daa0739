"""A head that reads the table of the stem, as one with weights of its own: the same function."""

from __future__ import annotations

from dataclasses import replace

from wb.core.records import Language
from wb.models.heads.language import TABLE
from wb.models.model import Model


def untied(model: Model) -> Model:
    """`model`, its head with a copy of the table that it read; any other as it is. The history stays."""
    head = model.architecture.head
    if not isinstance(head, Language) or not head.tied:
        return model
    architecture = model.architecture.model_copy(update={"head": head.model_copy(update={"tied": False})})
    return replace(model, architecture=architecture, weights={**model.weights, "head": model.weights[TABLE].clone()})
