"""The stock model: the largest network of preset `plain`, trained once and kept in the user's cache.

Commands use it when they are given no model, so that everything can be tried on a fresh machine.
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
from wb.spaces.columnar.presets import vit_space
from wb.training.fit import Recipe, Report
from wb.training.train import train

RECIPE = Recipe(epochs=40)


@dataclass(frozen=True)
class Stock:
    """The stock model of one data set and seed: its file, and its training when the file is missing."""

    data: Dataset
    seed: int = 0
    folder: Path | None = None  # default: the user's cache folder

    @property
    def architecture(self) -> Architecture:
        """The architecture: width 64, six blocks of four heads, four-fold feed-forwards; 302k parameters on digits."""
        return vit_space(self.data, "plain").largest()

    @property
    def path(self) -> Path:
        """The model's file. Its name contains everything that determines the model."""
        folder = self.folder or Path(user_cache_dir("wb")) / "models"
        threads = torch.get_num_threads()  # the order of summation depends on it
        return folder / f"plain-{self.data.name}-{self.data.fingerprint}-{self.seed}-{threads}.safetensors"

    def __call__(self, report: Report | None = None) -> Model:
        """The model, read from its file or trained now; an interrupted training continues.

        Raises:
            TrainingDiverged: the loss is NaN or infinite.
            StorageFailed: the cache cannot be written.
        """
        if self.path.exists():
            try:
                model = load(self.path)
                if model.architecture == self.architecture:
                    return model
            except BadArtefact:  # damaged, or of an older version: train again
                pass
        checkpoint = self.path.with_name(self.path.name + ".checkpoint")
        try:
            model = self._trained(checkpoint, report)
        except BadArtefact:  # as above, of a training that was interrupted
            checkpoint.unlink(missing_ok=True)
            model = self._trained(checkpoint, report)
        save(model, self.path, force=True)
        checkpoint.unlink(missing_ok=True)
        return model

    def _trained(self, checkpoint: Path, report: Report | None) -> Model:
        return train(self.architecture, self.data, RECIPE, seed=self.seed, checkpoint=checkpoint, report=report)
