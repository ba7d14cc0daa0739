"""`wb convert` from start to end: other mixers, a path ensemble, other norms, fine-tuning after each, final readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from wb.compress.convert.config import ConvertConfig, parsed
from wb.compress.convert.norms import OtherNorms, converted
from wb.compress.convert.paths import PathEnsemble, ensembled
from wb.compress.convert.record import Conversion, Layer
from wb.compress.convert.teach import OtherMixers
from wb.compress.staged.job import StagedJob
from wb.compress.staged.record import Name
from wb.core.architecture import Architecture
from wb.data import Dataset
from wb.models.model import Model
from wb.models.passes.base import Pass
from wb.training.recipes.recipe import Recipe


class ConvertJob(StagedJob[Conversion]):
    """One conversion."""

    record_type = Conversion
    page = "wb.compress.convert.report:page"

    @property
    def config(self) -> ConvertConfig:
        """The settings."""
        return self.record.config

    @property
    def names(self) -> Sequence[Name]:
        """The stages in order: norms last, so that they see what they will be given."""
        return names_of(self.config)

    def step(self, name: Name) -> Pass:
        """The pass of a stage."""
        if name == "norms":
            return OtherNorms(self.data)
        if name == "paths":
            return PathEnsemble(self.data, lambda stage: self.progress(f"{name}, pruning those of stage {stage}", 0, 0))

        def report(slot: str) -> None:
            self.progress(f"{name}, teaching {slot}", 0, 0)

        folder = self.work if self.work.exists() else None  # a plan writes nothing
        return replace(mixers_of(self.config, self.data), folder=folder, report=report)

    def recipe(self, name: Name, architecture: Architecture) -> Recipe:
        """How the network of a stage is fine-tuned: with other norms, layer norms give way meanwhile; paths learn from all."""
        found = super().recipe(name, architecture)
        changes = {"norms": {"layered": self.config.progressive}, "paths": {"paths": self.config.self_distil}}
        return found.model_copy(update=changes.get(name, {}))

    def noted(self, name: Name, prepared: Model) -> dict[str, object]:
        """Which mixers were replaced, and how well they were taught."""
        if name != "mixers":
            return {}
        layers = cast(list[object], prepared.history[-1].arguments["layers"])
        return {"layers": tuple(Layer.model_validate(one) for one in layers)}


def names_of(config: ConvertConfig) -> Sequence[Name]:
    """The stages that a configuration asks for, in order."""
    wanted: dict[Name, bool] = {
        "mixers": config.mixer is not None,
        "paths": config.wiring != "keep",
        "norms": config.norm != "keep",
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def mixers_of(config: ConvertConfig, data: Dataset) -> OtherMixers:
    """The pass that puts the mixers of a configuration into their places."""
    kind, given = parsed(config.mixer or "")
    return OtherMixers(data, kind, given, _blocks(config.layers), config.steps, seed=config.seed)


def check_work(config: ConvertConfig, data: Dataset, architecture: Architecture) -> None:
    """Raises `BadOption`, or `Unsupported`, where a stage of the conversion cannot be, as the passes do."""
    for name in names_of(config):
        if name == "mixers":
            architecture = mixers_of(config, data).converted(architecture)
        else:
            architecture = ensembled(architecture) if name == "paths" else converted(architecture)


def _blocks(layers: Sequence[str]) -> tuple[str, ...]:
    """Blocks as options name them: several may stand in one, and a slot of the page stands for its block."""
    parts = (part.strip() for text in layers for part in text.split(","))
    return tuple(part.removesuffix(".mixer") for part in parts if part)
