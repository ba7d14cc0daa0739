"""The configuration of a quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from wb.core.commands.option import Cli
from wb.core.measures.metrics import METRICS, QUALITIES, Limit, Rules, parse_budget
from wb.data.preparation import Preparation
from wb.jobs.frame.config import SAMPLES, JobConfig, Seed

LIMITED = Rules(("size", *QUALITIES, "latency"), changes=True)  # what a budget may be on

PolicyName = Literal["int8", "int8-dynamic", "int4-weights", "mixed"]
FITTED: tuple[PolicyName, ...] = ("int8", "mixed")  # what they do depends on the calibration inputs


class QuantizeConfig(JobConfig):
    """Everything that determines a quantization, apart from the model and the machine.

    `keep` has names of groups, or what they begin with. `data` is None where a foreign graph is not scored. `background` is
    what transparent images of `calibration` are laid on; that of the data stands in their name.
    """

    policy: Annotated[
        PolicyName,
        Field(
            description="int8-dynamic (activations quantized as they come, convolutions in fp32), int8 (static), "
            "int4-weights, or mixed (group by group, by sensitivity)."
        ),
        Cli(default="int8-dynamic; int8 for stages of convolutions and for openvino; mixed with a budget"),
    ] = "int8-dynamic"
    budget: Annotated[
        tuple[str, ...],
        Field(description="size=0.3x, acc=-0.5 (points), latency=0.6x, ppl=1.02x (decoders), or absolute."),
        Cli(default="acc=-0.5, or ppl=1.02x, with mixed", typed=list[str]),
    ] = ()
    images: Preparation | None = None  # as the options or the file of a foreign graph say
    calibration: Annotated[
        str | None,
        Field(description="Typical inputs: a folder of images, .npy or .npz."),
        Cli(default="training images", typed=Path),
    ] = None
    background: str = "white"
    calib: Annotated[
        int, Field(ge=1, description="Inputs to calibrate on, or random ones to compare on."), Cli(SAMPLES)
    ] = 128
    keep: Annotated[
        tuple[str, ...],
        Field(description="A group that stays in floating point, or what its name begins with: s0.b3, head."),
        Cli(default="none", typed=list[str]),
    ] = ()
    seed: Seed = 0

    @field_validator("budget")
    @classmethod
    def _parts(cls, budget: tuple[str, ...]) -> tuple[str, ...]:
        """One budget each, as `latency=2ms,size=1MB` may come in one."""
        return tuple(part.strip() for text in budget for part in text.split(",") if part.strip())

    def limits(self, quality: str) -> dict[str, Limit]:
        """The budgets by what was given; where `mixed` has none, half a point of accuracy or 2 % of perplexity.

        Raises:
            BadOption: they are no budgets, or one is on what quantization does not change or cannot aim at.
        """
        texts = self.budget or ((LIMITED.on_quality(METRICS[quality]),) if self.policy == "mixed" else ())
        return dict(zip(texts, parse_budget(texts, LIMITED), strict=True))
