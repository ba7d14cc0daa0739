"""The configuration of a search, stored in `run.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from wb.core.architecture import Architecture
from wb.core.commands.option import Cli
from wb.core.errors import BadOption
from wb.core.measures.metrics import (
    ACCURACY,
    APART,
    CONTINUING,
    METRICS,
    Limit,
    Metric,
    Rules,
    device_of,
    parse_budget,
    parse_objectives,
)
from wb.core.measures.requirements import Asked, Requirement, parse_requirements
from wb.core.records.base import is_none
from wb.core.system.durations import parse_duration
from wb.jobs.frame.config import Data, DataConfig, DeviceName, ScoreOn, Seed, Threads
from wb.search.fidelity.rungs import AUTO, NONE, Rung, parse_rungs
from wb.training.recipes.recipe import RecipeOptions

SamplerName = Literal["guided", "nsga2", "tpe", "random", "generate"]
SeedName = Literal[
    "revit",
    "largest",
    "smallest",
    "mobilenet",
    "mobilenetv3",
    "repvit",
    "convnext",
    "poolformer",
    "coatnet",
    "resnet",
    "swin",
    "hiera",
]
QUALITY = ACCURACY.name  # what `wb.tasks` reads of networks that classify, without torch
OF_DECODERS = "ppl,latency@token"
PASSES: Mapping[str, int] = {"epochs": 4, "finetune": 3}  # of passages, each of which has many tokens to learn from
SEED_NAMES: tuple[SeedName, ...] = get_args(SeedName)


def parse_changes(texts: Sequence[str]) -> dict[str, str]:
    """`["embed=16,32"]` -> {"embed": "16,32"}.

    Raises:
        BadOption: not of this form.
    """
    pairs = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise BadOption(f"--set {text!r} is not of the form name=value; write for example --set embed=16,32")
        pairs[name.strip()] = value.strip()
    return pairs


class SearchConfig(DataConfig):
    """The configuration of a run: everything that determines it, apart from the machine."""

    space: Annotated[
        Literal["auto", "vit", "hybrid", "text", "decoder"],
        Field(
            description="Space to search. auto: hybrid for images of 24 pixels a side and more, else vit; text for texts, "
            "decoder for passages (lm)."
        ),
    ] = "auto"
    preset: Annotated[str, Field(description="Size of the space; `wb spaces` lists them. auto: by the images.")] = (
        "auto"
    )
    changes: Annotated[Mapping[str, str], Cli("--set", default="none", typed=list[str], parse=parse_changes)] = Field(
        default_factory=dict,
        description="Replace a field of the preset, e.g. --set embed=16,32, in space hybrid also s1.embed of one stage.",
    )
    data: Annotated[Data, Cli(default="digits; listops for space text, lm for space decoder")] = "digits"
    objectives: Annotated[
        str,
        Field(
            description="One to four of acc, latency, size, macs, params, energy (a model); of decoders ppl in the place of acc, "
            "latency@token, latency@prompt; latency@NAME of a device (`wb device list`)."
        ),
        Cli(default=f"{QUALITY},latency; of decoders {OF_DECODERS}"),
    ] = f"{QUALITY},latency"
    budget: Annotated[
        tuple[str, ...],
        Field(description="Hard limits: latency=2ms, size=1MB; with --from latency=0.5x,0.3x are two networks."),
        Cli(default="none", typed=list[str]),
    ] = ()
    require: Annotated[
        tuple[str, ...],
        Field(
            description='What a network has to meet, e.g. "acc>=0.7", several with commas between; the nearest are left where '
            "none does. Of those that do, one objective says which is best; with several it is the smallest margin."
        ),
        Cli(default="none", typed=list[str]),
    ] = ()
    sampler: Annotated[SamplerName, Field(description="What proposes candidates; generate is for --require.")] = (
        "guided"
    )
    practice: Annotated[
        bool, Field(description="Sampler generate proposes no networks against the best practice of the space.")
    ] = True
    trials: Annotated[int, Field(ge=1, description="True evaluations.")] = 100
    epochs: Annotated[
        int, Field(ge=1, description="Epochs of supernet training."), Cli(default=f"60; of passages {PASSES['epochs']}")
    ] = 60
    finetune: Annotated[
        int,
        Field(ge=0, description="Epochs of fine-tuning for each finalist."),
        Cli(default=f"40; of passages {PASSES['finetune']}"),
    ] = 40
    training: RecipeOptions = RecipeOptions()
    rungs: Annotated[
        str,
        Field(
            description="Candidates to train alone before finalists are chosen, e.g. 60x1,20x3: 60 for an epoch, 20 for 3. "
            "none: finalists are chosen by inherited accuracy."
        ),
        Cli(default="from the numbers of trials and finalists"),
    ] = NONE  # what runs without the field did; new ones are configured with `AUTO`
    finalists: Annotated[
        int | None,
        Field(ge=1, description="Networks that are fine-tuned and timed together."),
        Cli(default="from the number of trials"),
    ] = None
    mirror: Annotated[
        bool,
        Field(
            description="Also offer every finalist that was trained on flipped images as a network that looks at the mirror "
            "image too: better, in twice the time."
        ),
    ] = True
    int8: Annotated[
        bool,
        Field(
            description="Also offer every finalist of convolutions as a graph in 8 bits, where that is measured to be faster."
        ),
    ] = True
    retrain: Annotated[
        bool | None,
        Field(
            description="Once all are judged, train the front again, on validation examples too, and deliver that: where "
            "there are few, it may be half a point better. Later commands judge it too kindly by these examples."
        ),
        Cli(default="no-retrain; for few texts in a given --time retrain"),
    ] = None  # unlike false it has both options
    baselines: Annotated[
        bool,
        Field(
            description="Also train up to three known networks of the space, of latencies like the finalists', by the same "
            "recipe, and show them beside the front."
        ),
    ] = False
    time: Annotated[
        str | None,
        Field(
            description="End about then, e.g. 10min: epochs, trials, rungs, finalists and fine-tuning that are not given are "
            "planned from timed steps."
        ),
        Cli(default="as long as it takes"),
    ] = None
    device: DeviceName = "cpu"
    score_on: ScoreOn = "here"
    threads: Annotated[Threads, Field(le=4096)] = 1
    latency: Annotated[
        Literal["measured", "table"],
        Field(description="measured: time every candidate; table: sum of its blocks' timings."),
    ] = "measured"
    seed: Seed = 0
    storage: Annotated[
        str | None,
        Field(
            description="Optuna storage URL; env:NAME takes it from the environment, where others do not see its password "
            "(ps). PostgreSQL also looks for PGPASSWORD."
        ),
        Cli(default="study.db in the run folder"),
    ] = None
    seeds: Annotated[  # files by their content
        tuple[SeedName | Architecture, ...],
        Field(
            description="Evaluate this first: largest, smallest, in space vit revit (the preset's own), in space hybrid a "
            "published network, such as resnet (`wb spaces` names them), or the file of an architecture or model, for example "
            "a pruned one. May be given several times."
        ),
        Cli("--seed-architecture", default="none", typed=list[str], metavar="WHAT"),
    ] = ()

    start: Annotated[Architecture | None, Field(exclude_if=is_none)] = (
        None  # of the model that the supernet starts from
    )

    @field_validator("rungs")
    @classmethod
    def _are_rungs(cls, value: str) -> str:
        if value != AUTO:
            parse_rungs(value)
        return value

    @field_validator("time")
    @classmethod
    def _is_a_duration(cls, value: str | None) -> str | None:
        if value is not None:
            parse_duration(value)
        return value

    @property
    def halving(self) -> tuple[Rung, ...]:
        """The rungs, parsed; they have to be settled (`wb.search.planning.settle.settled`)."""
        return parse_rungs(self.rungs)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The objectives, parsed."""
        return parse_objectives(self.objectives)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The budgets, parsed."""
        return parse_budget(
            self.budget, Rules(tuple(METRICS), shares=False, devices=True)
        )  # a share needs an input model, and a search has none

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The requirements, parsed."""
        return parse_requirements(self.require)

    @property
    def bounds(self) -> tuple[Limit, ...]:
        """The budgets, and the requirements that could be budgets: of two on one metric the requirement."""
        required = {one.metric.name: one.limit for one in self.requirements if one.limit is not None}
        others = {limit.metric.name: limit for limit in self.limits}
        return tuple((others | required).values())

    @property
    def asked(self) -> Asked:
        """What networks are sought for; of several objectives none says alone what is best."""
        goal = self.metrics[0] if len(self.metrics) == 1 else None
        return Asked(self.requirements, goal, self.practice)

    @property
    def wanted(self) -> dict[str, int | str]:
        """What a front belongs to: the settings that may change when a run is resumed."""
        chosen: dict[str, int | str] = {} if self.finalists is None else {"finalists": self.finalists}
        chosen |= {"require": ", ".join(one.text() for one in self.requirements)} if self.require else {}
        chosen |= {"baselines": 1} if self.baselines else {}
        chosen |= {"retrain": 1} if self.retrains else {}
        return {"trials": self.trials, "finetune": self.finetune, **chosen}

    @property
    def retrains(self) -> bool:
        """Whether networks of the front are trained once more; those that are not fine-tuned are not."""
        return bool(self.retrain) and self.finetune > 0

    @property
    def read(self) -> frozenset[str]:
        """The names of the metrics that objectives, budgets and requirements use."""
        asked = self.asked.within(self.limits)
        return frozenset(metric.name for metric in self.metrics) | asked.metrics

    @property
    def timed(self) -> bool:
        """Whether candidates are timed on the run's device."""
        return any(name in ("latency", *CONTINUING) for name in self.read)

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices that metrics have, `latency@pi`, in the order of objectives and then by name."""
        names = [metric.name for metric in self.metrics] + sorted(self.read)
        return tuple(dict.fromkeys(found for name in names if (found := device_of(name)) is not None))

    @property
    def apart(self) -> tuple[str, ...]:
        """The metrics that are read in processes of their own."""
        return tuple(name for name in APART if name in self.read)

    @property
    def tabulated(self) -> bool:
        """Whether latencies are estimated from the table of blocks."""
        return self.latency == "table" and "latency" in self.read

    @property
    def seed_texts(self) -> tuple[str, ...]:
        """The seed architectures by name, or by the key that `wb show` prints."""
        return tuple(seed if isinstance(seed, str) else f"architecture {seed.key}" for seed in self.seeds)
