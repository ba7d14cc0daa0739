"""The settings of a fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from wb.core.architecture import Architecture
from wb.core.commands.option import Cli
from wb.core.errors import BadOption
from wb.core.records import Frozen
from wb.jobs.frame.config import Seed

Method = Literal["vanilla", "ot", "perm", "orth", "regress"]
Stat = Literal["weights", "activations"]
Size = Literal["anchor", "small", "large"]
Solver = Literal["lap", "emd", "sinkhorn"]
RIDGE = 1e-3  # strength, relative to the mean variance of the inputs; ten times as much cost 0.7 points on digits


def parse_anchor(text: str | None) -> int | Literal["mean"] | None:
    """`2` or `mean`. Raises `BadOption` for anything else."""
    if text is None or text == "mean":
        return text if text is None else "mean"
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise BadOption(f"--anchor {text!r} is no model; give its number in the order of the command, from 1, or mean")


def parse_weights(text: str | None) -> tuple[float, ...] | None:
    """`0.3,0.7` -> (0.3, 0.7). Raises `BadOption` for anything else."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadOption(f"--weights {text!r} is no list of numbers; give one for each model, like 0.3,0.7") from None


class Settings(Frozen):
    """The settings of a fusion: everything that determines it, apart from the models and images.

    `vanilla` averages models without alignment. `ot` is the published optimal transport, layer by layer. `perm` permutes heads
    and units; `orth` also rotates axes that allow it. `regress` fits the average of `orth` to the parents' outputs on images;
    `repair` restores moments after any other method. `stat` says what is compared: by default weights, activations in `ot`.
    `anchor` counts from 1; "mean" aligns every parent to the mean of the others.
    """

    method: Annotated[
        Method,
        Field(description="vanilla, ot (as published), perm, orth, or regress (needs data)."),
        Cli(default="regress with data, else orth"),
    ] = "orth"
    stat: Annotated[Stat | None, Field(description="What is compared."), Cli(default="weights; ot: activations")] = None
    solver: Annotated[
        Solver | None,
        Field(description="What couples hidden units: lap, emd or sinkhorn; in ot all."),
        Cli(default="lap; ot: sinkhorn"),
    ] = None
    reg: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        Field(description="Sinkhorn's regularisation."),
        Cli(default="0.08; ot by weights: 0.06"),
    ] = None
    anchor: Annotated[
        Annotated[int, Field(ge=1)] | Literal["mean"] | None,
        Field(description="The model that gives the axes, counted from 1, or mean (of the others)."),
        Cli(default="1", parse=parse_anchor),
    ] = None
    size: Annotated[Size, Field(description="Whose sizes to take: anchor, small or large (by parameters).")] = "anchor"
    weights: Annotated[
        tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] | None,
        Field(description="Of the models in the average: 0.3,0.7."),
        Cli(default="equal", parse=parse_weights),
    ] = None
    repair: Annotated[bool, Field(description="Restore the moments of activations.")] = False
    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = RIDGE
    seed: Seed = 0

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.repair and self.method in ("regress", "ot"):
            why = (
                "it fits everything already" if self.method == "regress" else "its maps keep no activations to restore"
            )
            raise ValueError(f"repair does not go with {self.method}, for {why}; leave it out, or take orth")
        if self.anchor == "mean" and (self.method in ("vanilla", "ot") or self.compared == "activations"):
            raise ValueError(
                "anchor 'mean' compares weights in perm, orth and regress only; name an anchor by its number"
            )
        if self.size != "anchor" and self.anchor is not None:
            raise ValueError(f"size {self.size!r} chooses the anchor by its parameters; leave out anchor or size")
        if self.method == "vanilla" and (self.stat or self.solver):
            raise ValueError("vanilla compares nothing; leave out stat and solver, or take another method")
        solver = self.solver or ("sinkhorn" if self.method == "ot" else "lap")
        if solver != "sinkhorn" and self.reg is not None:
            raise ValueError(f"reg is Sinkhorn's; {solver} has none: leave it out, or take solver sinkhorn")
        return self

    @property
    def compared(self) -> Stat:
        """What is compared: weights or activations, chosen or by default."""
        return self.stat or ("activations" if self.method == "ot" else "weights")

    @property
    def needs_images(self) -> bool:
        """Whether the fusion is impossible without images."""
        return self.method == "regress" or self.repair or (self.method != "vanilla" and self.compared == "activations")


def anchor_of(settings: Settings, architectures: Sequence[Architecture]) -> int:
    """The index of the anchor, the model that gives architecture and axes.

    Raises:
        BadOption: there is no such model.
    """
    from wb.models.counting import count_parameters  # loads torch, which data about a fusion need not

    if settings.size != "anchor":
        parameters = [count_parameters(architecture).value for architecture in architectures]
        pick = min if settings.size == "small" else max
        return parameters.index(pick(parameters))
    if settings.anchor is None or settings.anchor == "mean":
        return 0
    if settings.anchor > len(architectures):
        raise BadOption(
            f"anchor {settings.anchor}: there are {len(architectures)} models; give 1 to {len(architectures)}"
        )
    return settings.anchor - 1


def shares_of(settings: Settings, parents: int) -> tuple[float, ...]:
    """The weights of the parents, normalised to sum to one.

    Raises:
        BadOption: not one for each parent, or nothing but zeros.
    """
    given = settings.weights or (1.0,) * parents
    if len(given) != parents or not max(given):
        text, example = ",".join(f"{w:g}" for w in given), ",".join(["1"] * parents)
        raise BadOption(
            f"weights {text} do not fit; give one number of 0 or more for each of {parents} models, like {example}"
        )
    parts = [share / max(given) for share in given]  # scaled first, so that their sum is finite
    return tuple(part / sum(parts) for part in parts)
