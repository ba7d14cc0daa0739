"""The configuration of a fusion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from wb.core.architecture import Architecture
from wb.core.commands.option import Cli
from wb.fusion.settings import Settings
from wb.jobs.frame.config import SAMPLES, JobConfig, LearningRate
from wb.training.recipes.recipe import RecipeOptions

CALIBRATION = 1024  # images that are looked at by default
RATE = 3e-4  # of fine-tuning; more undoes what was fitted before it helps
MAPS_RATE = 1e-3  # as little is undone where batch norms follow
EPOCHS = 5  # of fine-tuning where no models are given


class FuseConfig(JobConfig):
    """Everything that determines a fusion, apart from the models and the machine.

    `data` is None where there are none. `calib` is None for the default, of which nothing is drawn where no image is
    looked at. `to` is the architecture to fuse into, None for the anchor's.
    """

    data: Annotated[
        str | None,
        Field(description="digits, imagefolder:PATH, idx:PATH, cifar10:PATH, npz:FILE or hf:PLACE, or none."),
        Cli(default="those that all models were trained with, else none; digits without models"),
    ] = None
    device: Annotated[str, Field(description="What accuracies are read with.")] = "cpu"
    settings: Settings = Field(default_factory=Settings)
    calib: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Unlabelled training images to look at."),
        Cli(SAMPLES, default=str(CALIBRATION)),
    ] = None
    finetune: Annotated[
        int,
        Field(ge=0, description="Epochs of fine-tuning, all models as teachers."),
        Cli(default=f"0; {EPOCHS} without models"),
    ] = 0
    learning_rate: Annotated[
        LearningRate | None, Cli(default=f"{RATE:g}; {MAPS_RATE:g} of networks with stages of convolutions")
    ] = None
    training: RecipeOptions = RecipeOptions()
    to: Annotated[
        Architecture | None,
        Field(description="An architecture (JSON or a model file) to fuse into."),
        Cli(default="the anchor's", typed=Path),
    ] = None

    def tuned_for(self, architecture: Architecture) -> Self:
        """The same with the learning rate that suits the fused network, where none is given."""
        usual = MAPS_RATE if architecture.has_maps else RATE
        return self.model_copy(update={"learning_rate": self.learning_rate or usual})

    def looks(self, parents: Sequence[Architecture]) -> bool:
        """Whether images are of any use: to fit, to compare, to match blocks, or for another architecture."""
        depths = {tuple(sum(not block.off for block in stage.blocks) for stage in a.stages) for a in parents}
        matched = len(depths) > 1 and self.settings.method not in ("vanilla", "ot")
        return self.settings.needs_images or matched or self.to is not None
