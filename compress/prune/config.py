"""The configuration of a pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from wb.compress.nvit.settings import Settings
from wb.compress.prune.stages import name_of
from wb.core.commands.option import Cli, structured
from wb.core.errors import BadOption
from wb.core.measures.metrics import CONTINUING, COSTS, Limit, Rules, parse_budget
from wb.jobs.frame.config import JobConfig, LearningRate, ModelData
from wb.jobs.frame.output import config_of
from wb.training.recipes.recipe import RecipeOptions

Cut = Literal["nvit", "depth"]
HALF = "latency=0.5x"  # the budget where none is given
LIMITED = Rules((*COSTS, *CONTINUING))  # what a pruning can aim at: quality is what comes of it
OF_DEPTH = ("calibration", "seed", "compensate")  # its settings, of those of `nvit`
# Of each command: what it takes where nothing is given, instead of the configuration's default, and the fields it has not.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"nvit": {"recovery": 20}, "depth": {"calibration": 512}}
WITHOUT: Mapping[str, tuple[str, ...]] = {
    "nvit": ("method",),
    "depth": ("method", *(f"settings.{name}" for name in Settings.model_fields if name not in OF_DEPTH)),
}


def parse_shares(text: str) -> tuple[float, ...]:
    """`0.75x,0.5x` -> (0.75, 0.5).

    Raises:
        BadOption: not of this form.
    """
    shares = []
    for part in text.split(","):
        number = part.strip().removesuffix("x")
        try:
            shares.append(float(number))
        except ValueError:
            raise BadOption(f"{part!r} in --snapshots is no share; write for example --snapshots 0.75x,0.5x") from None
    return tuple(shares)


class PruneConfig(JobConfig):
    """Everything that determines a pruning, apart from the model and the machine."""

    method: Cut = "nvit"
    data: ModelData = "digits"
    budget: Annotated[
        tuple[str, ...],
        Field(
            description="latency (of decoders latency@token, latency@prompt), macs, params, size, energy (a model); absolute "
            "(2ms, 1MB) or a share (0.5x)."
        ),
        Cli(default=f"{HALF}, without snapshots", typed=list[str]),
    ] = ()
    snapshots: Annotated[
        tuple[float, ...],
        Field(description="Models to leave on the way, as shares: 0.75x,0.5x."),
        Cli(default="none", typed=str, parse=parse_shares),
    ] = ()
    settings: Settings = Field(default_factory=Settings)
    finetune: Annotated[int, Field(ge=0, description="Epochs of fine-tuning at the end.")] = 20
    learning_rate: LearningRate = 1e-3
    training: RecipeOptions = RecipeOptions()
    distill: Annotated[bool, Field(description="Train with the dense model as teacher.")] = True

    @field_validator("snapshots")
    @classmethod
    def _fall(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        names = {name_of(share) for share in shares}  # of their files
        fall = shares == tuple(sorted(shares, reverse=True)) and len(names) == len(shares)
        if not fall or not all(0 < share < 1 for share in shares):
            text = ",".join(f"{share:g}x" for share in shares)
            raise ValueError(f"{text} has to fall, between 1x and 0x; for example 0.75x,0.5x")
        return shares

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The budgets, parsed: half the latency where neither they nor snapshots are given.

        Raises:
            BadOption: they are no budgets, or one is on a quality.
        """
        limits = parse_budget(self.budget or (() if self.snapshots else (HALF,)), LIMITED)
        if not limits and not self.snapshots:
            raise BadOption(f"{list(self.budget)} is no budget; say for example --budget latency=0.5x")
        return limits


def configured(method: str, given: Mapping[str, Any]) -> PruneConfig:
    """The options of a command, by the names of fields, as a configuration.

    Raises:
        BadOption: no such method, a value that does not fit, or a budget that is none.
    """
    if method not in DEFAULTS:
        raise BadOption(f"no method {method!r}; there are {' and '.join(DEFAULTS)}")
    whole = structured(PruneConfig, {**DEFAULTS[method], **given}, WITHOUT[method])
    if method == "depth":
        whole["settings"] |= {"rounds": 1, "rotate": False}
    config = config_of(PruneConfig, f"prune {method}", {**whole, "method": method})
    _ = config.limits  # raises
    return config
