"""The configuration of a search, stored in `run.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from wb.core.architecture import Architecture
from wb.core.metrics import Limit, Metric, Rules, parse_budget, parse_objectives
from wb.core.records import Classify
from wb.jobs.config import DataConfig
from wb.tasks.known import TASKS
from wb.training.fit import Recipe

SamplerName = Literal["guided", "nsga2", "tpe", "random"]
SeedName = Literal["revit", "largest", "smallest"]
QUALITY = TASKS[Classify.task].metric  # of the networks of every space
SEED_NAMES: tuple[SeedName, ...] = get_args(SeedName)


class SearchConfig(DataConfig):
    """The configuration of a run: everything that determines it, apart from the machine."""

    space: Literal["vit"] = "vit"
    preset: str = "tiny"
    changes: Mapping[str, str] = Field(default_factory=dict)  # --set: fields of the space that replace the preset's
    data: str = "digits"
    objectives: str = f"{QUALITY},latency"
    budget: tuple[str, ...] = ()
    sampler: SamplerName = "guided"
    trials: Annotated[int, Field(ge=1)] = 100
    epochs: Annotated[int, Field(ge=1)] = 60
    finetune: Annotated[int, Field(ge=0)] = 20
    device: str = "cpu"
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    latency: Literal["measured", "table"] = "measured"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    storage: str | None = None
    seeds: tuple[SeedName | Architecture, ...] = ()  # --seed-architecture: evaluated first; files are stored by content

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The objectives, parsed."""
        return parse_objectives(self.objectives)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The budgets, parsed."""
        return parse_budget(self.budget, Rules(shares=False))  # a share needs an input model, and a search has none

    @property
    def read(self) -> frozenset[str]:
        """The names of the metrics that objectives and budgets use."""
        return frozenset(metric.name for metric in self.metrics) | {limit.metric.name for limit in self.limits}

    @property
    def tabulated(self) -> bool:
        """Whether latencies are estimated from the table of blocks."""
        return self.latency == "table" and "latency" in self.read

    @property
    def recipe(self) -> Recipe:
        """The training recipe of the supernet."""
        return Recipe(epochs=self.epochs)

    @property
    def seed_texts(self) -> tuple[str, ...]:
        """The seed architectures by name, or by the key that `wb show` prints."""
        return tuple(seed if isinstance(seed, str) else f"architecture {seed.key}" for seed in self.seeds)
