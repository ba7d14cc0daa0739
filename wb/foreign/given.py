"""What a user may say of a checkpoint that its tensors' shapes cannot tell."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from wb.core.architecture import explain
from wb.core.errors import BadOption
from wb.core.records import Frozen
from wb.core.records.base import Activation
from wb.data.preparation import Preparation


class Given(Frozen):
    """Options of `wb import`; None is what the checkpoint says itself, or what its family usually has."""

    heads: Annotated[int, Field(ge=1, le=65536)] | None = None
    activation: Activation | None = None
    eps: Annotated[float, Field(gt=0, le=1)] | None = None
    pool: Literal["mean", "first"] | None = None
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    images: Preparation | None = None


def given_of(**options: object) -> Given:
    """The options as typed. Raises `BadOption` for a value that is none of those that there are."""
    try:
        return Given.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise BadOption(f"wrong option: {explain(error)}") from error
