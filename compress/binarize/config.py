"""The configuration of a binarization."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wb.core.commands.option import Cli
from wb.core.records import Width
from wb.jobs.frame.config import JobConfig, LearningRate, ModelData, Seed
from wb.training.recipes.recipe import RecipeOptions


class BinarizeConfig(JobConfig):
    """Everything that determines a binarization, apart from the model and the machine.

    `finetune` are epochs after each stage. `keep` has names of groups, or what they begin with; `head` includes the head.
    """

    data: ModelData = "digits"
    attention: Annotated[
        Literal["hash", "keep"],
        Field(description="Softmax attention: keep, or hash (kernelized hashing, linear in the tokens)."),
    ] = "keep"
    form: Annotated[
        Literal["kernel", "official"], Field(description="Of hash attention: kernel, or official (the published code).")
    ] = "kernel"
    bits: Annotated[Width, Field(description="Of a hash code.")] = 16
    anchors: Annotated[Width, Field(description="Of the hash functions.")] = 25
    weights: Annotated[
        Literal["w1", "w2", "keep"],
        Field(description="Linear weights: w1 (binary), w2 (ternary) or keep (as they are)."),
    ] = "w1"
    keep: Annotated[
        tuple[str, ...],
        Field(description="A group that stays in floating point, or what its name begins with: s0.b3, s0.b3.ffn.out."),
        Cli(default="none", typed=list[str]),
    ] = ()
    head: Annotated[bool, Field(description="Round the head as well; it stays in fp32 otherwise."), Cli("--all")] = (
        False
    )
    finetune: Annotated[
        int, Field(ge=0, description="Epochs of fine-tuning after each stage: attention, then weights.")
    ] = 20
    learning_rate: LearningRate = 1e-3
    training: RecipeOptions = RecipeOptions()
    seed: Seed = 0
