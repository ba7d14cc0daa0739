"""The configuration of `wb bundle`; loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from wb.core.commands.option import Cli
from wb.core.errors import BadOption
from wb.jobs.frame.config import MeasureConfig

RuntimeName = Literal["litert", "litert-int8", "openvino"]


def runtimes_of(text: str | None) -> list[RuntimeName]:
    """`litert,openvino` -> the runtimes that it names. Raises `BadOption` for others, or one twice."""
    names = [name.strip() for name in text.split(",")] if text is not None else []
    offered: tuple[RuntimeName, ...] = get_args(RuntimeName)
    known = [name for name in offered if name in names]
    if len(known) != len(names):
        raise BadOption(f"--runtimes {text!r}: give some of {', '.join(offered)}, with commas between, each once")
    return known


class BundleConfig(MeasureConfig):
    """How a network is measured for its bundle, the licence of its weights, and for which runtimes it also has files."""

    licence: Annotated[
        str | None,
        Field(description="Licence of the weights: its name, or a file with its text, which is put in."),
        Cli(default="none is stated"),
    ] = None
    runtimes: Annotated[
        str | None,
        Field(
            description="Also files for other runtimes, with commas between: litert (Android; .tflite), litert-int8, openvino. "
            "LiteRT needs an environment of its own; without it an error says how to make it."
        ),
        Cli(default="ONNX Runtime and PyTorch only"),
    ] = None

    @field_validator("runtimes")
    @classmethod
    def _known(cls, given: str | None) -> str | None:
        runtimes_of(given)
        return given
