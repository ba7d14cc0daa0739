"""The stock model: preset `plain`'s largest network, trained once and kept in the user's cache.

It is what a command works on that was given no model, so that everything can be tried on a fresh machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from platformdirs import user_cache_dir

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact
from wb.data import Dataset
from wb.models.model import Model, load, save
from wb.spaces.presets import vit_space
from wb.training.fit import Recipe, Report
from wb.training.train import train

RECIPE = Recipe(epochs=40)


@dataclass(frozen=True)
class Stock:
    """Where the stock model of one data set and seed is kept, and how it is made."""

    data: Dataset
    seed: int = 0
    folder: Path | None = None  # the user's cache without it

    @property
    def architecture(self) -> Architecture:
        """Width 64, six blocks of four heads, four-fold feed-forwards, patches of 2 on digits: 302k parameters there."""
        return vit_space(self.data, "plain").largest("softmax")

    @property
    def path(self) -> Path:
        """Its file; the name has what determines the model."""
        folder = self.folder or Path(user_cache_dir("wb")) / "models"
        threads = torch.get_num_threads()  # more threads sum in another order
        return folder / f"plain-{self.data.name}-{self.data.fingerprint}-{self.seed}-{threads}.safetensors"

    def __call__(self, report: Report | None = None) -> Model:
        """The model, trained now unless it is kept already; an interrupted training continues.

        Raises:
            TrainingDiverged: the loss is NaN or infinite.
            StorageFailed: the cache cannot be written.
        """
        if self.path.exists():
            try:
                model = load(self.path)
                if model.architecture == self.architecture:
                    return model
            except BadArtefact:  # damaged, or of an older version: made anew
                pass
        checkpoint = self.path.with_name(self.path.name + ".checkpoint")
        model = train(self.architecture, self.data, RECIPE, seed=self.seed, checkpoint=checkpoint, report=report)
        save(model, self.path, force=True)
        checkpoint.unlink(missing_ok=True)
        return model
