"""The configuration of a conversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator

from wb.core.commands.option import Cli, structured
from wb.core.errors import BadOption
from wb.jobs.frame.config import JobConfig, LearningRate, ModelData, Seed
from wb.jobs.frame.output import config_of
from wb.spaces.operators import OFFERED
from wb.training.recipes.recipe import RecipeOptions, Share


class ConvertConfig(JobConfig):
    """Everything that determines a conversion, apart from the model and the machine.

    `finetune` are epochs after each stage: mixers, then paths, then norms.
    """

    data: ModelData = "digits"
    mixer: Annotated[
        str | None,
        Field(
            description="The kind of mixer that takes the place of others, and fields that these do not say: cosformer, or "
            "softmax,heads=2; `wb ops` lists kinds."
        ),
        Cli(default="mixers stay"),
    ] = None
    layers: Annotated[
        tuple[str, ...],
        Field(description="A block whose mixer is replaced, or what its name begins with: s0.b3, s0."),
        Cli(default="all that can be", typed=list[str]),
    ] = ()
    steps: Annotated[
        int, Field(ge=0, description="Steps in which each new mixer is taught by itself to give what was there.")
    ] = 400
    norm: Annotated[
        Literal["repbn", "keep"],
        Field(description="Layer norms: keep, or repbn (re-parameterized batch norms, which `wb fold norms` folds)."),
    ] = "keep"
    wiring: Annotated[
        Literal["ensemble", "keep"],
        Field(
            description="Pre-norm stages: keep, or ensemble (a sum of their paths with learned factors, less those without "
            "which the loss on validation images is least)."
        ),
    ] = "keep"
    self_distil: Annotated[
        Share,
        Field(description="What sums of the first paths learn from the answer, as a share of the loss, with --wiring."),
    ] = 0.2
    progressive: Annotated[
        Share, Field(description="Share of the steps of fine-tuning in which layer norms give way, with --norm.")
    ] = 0.7
    finetune: Annotated[
        int, Field(ge=0, description="Epochs of fine-tuning after each stage: mixers, wiring, norms.")
    ] = 20
    learning_rate: LearningRate = 1e-3
    training: RecipeOptions = RecipeOptions()
    seed: Seed = 0

    @field_validator("mixer")
    @classmethod
    def _known(cls, mixer: str | None) -> str | None:
        if mixer is not None:
            kind, _ = parsed(mixer)
            if kind not in OFFERED:
                raise BadOption(f"--mixer {kind} is no mixer; there are {', '.join(OFFERED)}")
        return mixer


def parsed(mixer: str) -> tuple[str, dict[str, JsonValue]]:
    """A mixer as it is said: its kind, and fields by name: `lmu,memory=16` -> ("lmu", {"memory": "16"}).

    Raises:
        BadOption: a field without a value, or one that the kind does not have.
    """
    kind, *pairs = [part.strip() for part in mixer.split(",")]
    found: dict[str, JsonValue] = {}
    for pair in pairs:
        name, sign, value = (part.strip() for part in pair.partition("="))
        if not (name and sign and value):
            raise BadOption(f"--mixer {mixer}: {pair!r} is no FIELD=VALUE, as memory=16 is one")
        if kind in OFFERED and (name == "kind" or name not in OFFERED[kind].model_fields):
            fields = [one for one in OFFERED[kind].model_fields if one != "kind"]
            raise BadOption(f"--mixer {mixer}: {kind} has no {name}; it has {', '.join(fields) or 'no fields'}")
        found[name] = value
    return kind, found


def configured(given: Mapping[str, Any]) -> ConvertConfig:
    """The options by the names of fields, as a configuration.

    Raises:
        BadOption: a value that does not fit, an option that would do nothing, or nothing to do.
    """
    config = config_of(ConvertConfig, "convert", structured(ConvertConfig, given))
    if config.mixer is None and config.norm == "keep" and config.wiring == "keep":
        raise BadOption(
            "there is nothing to convert; say which --mixer, --wiring or --norm takes the place of what is there"
        )
    of_mixers = [name for name in ("layers", "steps") if given.get(name) not in (None, ())]
    if of_mixers and config.mixer is None:
        raise BadOption(f"--{of_mixers[0]} is of other mixers; add --mixer")
    if given.get("self_distil") is not None and (config.wiring == "keep" or not config.finetune):
        raise BadOption("--self-distil is of fine-tuning path ensembles; add --wiring, and epochs of --finetune")
    if config.training.rdrop and config.wiring != "keep" and config.finetune and config.self_distil:
        raise BadOption(
            "--rdrop and --self-distil are two ways for a path ensemble to learn from its own answers; leave --rdrop out, or say "
            "--self-distil 0"
        )
    if given.get("progressive") is not None and (config.norm == "keep" or not config.finetune):
        raise BadOption("--progressive is of fine-tuning with other norms; add --norm, and epochs of --finetune")
    return config
