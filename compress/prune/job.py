"""`wb prune nvit` from start to end: rounds, landing on the budget, fine-tuning, final readings.

Everything that is done is kept in a folder beside the output until the end, so that the same command continues what was
interrupted; the last thing is to write the results to their places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wb import __version__
from wb.compress.depth.drop import DropLayers, gone
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT, Pruned, between, check_reachable
from wb.compress.prune.finish import Finish, spectrum
from wb.compress.prune.landing import Landing, correct, read_costs
from wb.compress.prune.record import Config, Record, Round
from wb.compress.prune.report import write_report
from wb.compress.prune.stages import Stage, stages_of
from wb.core.architecture import Architecture
from wb.core.errors import WbError
from wb.core.files import place, regular, replacing
from wb.data import Dataset
from wb.export.assess import QUICK_S, Assessor
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device, parse_device
from wb.jobs.job import Recorded
from wb.jobs.work import locked
from wb.models.model import Model, Step, load, save
from wb.models.passes import check
from wb.training.fit import pick_device

Report = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass
class Job(Recorded[Record]):
    """One pruning with everything it needs; calling it does what is not done yet and gives the finished record.

    `out` is the model file to write; beside it come the record as JSON and, while it lasts, the folder of what is done.
    `report` hears what is being done.
    """

    record: Record
    model: Model
    data: Dataset
    out: Path
    report: Report
    force: bool = False

    def __call__(self) -> Record:
        """Prunes.

        Raises:
            BadArtefact: the folder beside the output is something else's.
            BadData: a loss or gradient that is not finite.
            BadOption: another process is at it, or a file is in the way.
            BudgetMissed: a budget that cannot be reached.
            StorageFailed: something could not be written; what is done stays.
        """
        torch.set_num_threads(self.config.threads)
        abandon = self._open()
        with locked(self.work):
            self._note()
            try:
                if not self.record.results:
                    check_reachable(self.stages[-1].limits, self.costs, self.model, self._pruner.settings)
                    self._make()
            except WbError:
                if not self.record.rounds:  # there is nothing to continue
                    abandon()
                raise
            self._publish()
        return self.record

    def _make(self) -> None:
        """Everything up to the results, which lie in the folder then."""
        state = self._state()
        for number, stage in enumerate(self.stages):
            if not self._stage_path(number).exists():
                state = self._prune(number, stage, state)
                model = self._signed(state.model, stage)
                check(f"prune {self.config.method}", self.model, model)
                save(model, self._stage_path(number), force=True)
            if not any(round_.stage > number for round_ in self.record.rounds):  # else the state is further already
                state = Pruned(load(self._stage_path(number)), state.scores, len(self.record.rounds))
        models = [load(self._stage_path(number)) for number in range(len(self.stages))]
        with self._timed("fine-tuning"):
            tuned = [self._finish.finetuned(number, model, self.config) for number, model in enumerate(models)]
        with self._timed("final readings"):
            changes = self._finish.conclude(tuned, self.record)
        self._note(**changes)

    def _publish(self) -> None:
        """Puts models, record and report in their places; the folder goes last, in one step."""
        for number, result in enumerate(self.record.results):
            place(self._finish.staged(number), self.out.parent / result.model, force=self.force)
            if result.graph is not None:  # what an older version left half done has none
                place(self._finish.staged(number, ".onnx"), self.out.parent / result.graph, force=self.force)
        self._close(write_report)

    # ------------------------------------------------------------------------------------------- what it works with

    @property
    def config(self) -> Config:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """Where latency is measured."""
        return parse_device(self.config.device, threads=self.config.threads)

    @cached_property
    def stages(self) -> list[Stage]:
        """The models to be made, from large to small."""
        config = self.config
        return stages_of(config.limits, config.snapshots, config.settings.rounds, self.record.dense)

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """Of every limited metric, as sums over parts, set to what the dense model has."""
        metrics = list(dict.fromkeys(limit.metric.name for stage in self.stages for limit in stage.limits))
        table = LatencyTable(self.device) if "latency" in metrics else None
        what = "timing mixers and feed-forwards" if table else "counting mixers and feed-forwards"
        keep = frozenset(self.config.settings.keep)

        def progress(done: int, of: int) -> None:
            self.report(what, done, of)

        with self._timed("costs"):
            costs = costs_of(metrics, self.model.architecture, table, keep=keep, progress=progress)
        for metric, cost in costs.items():
            found, predicted = self.record.dense[metric].value, cost(self.model.architecture)
            if metric == "size":  # what a file has besides its weights
                cost.constant += found - predicted
            else:
                cost.factor = found / predicted
        return costs

    @cached_property
    def _pruner(self) -> NViT:
        return NViT(self.data, {}, self.costs, self.config.settings, self.teacher)

    @cached_property
    def _finish(self) -> Finish:
        return Finish(self.model, self.data, self.stages, self.work, self.out, self.teacher, self.assess, self.report)

    @cached_property
    def teacher(self) -> Callable[[Tensor], Tensor] | None:
        """The dense network, where it is to be distilled from."""
        return self.model.network(pick_device()) if self.config.distill else None

    @cached_property
    def assess(self) -> Assessor:
        """Reads whole models."""
        return Assessor(self.device, self.record.pace, seed=self.config.settings.seed)

    # ------------------------------------------------------------------------------------------------------ pruning

    def _prune(self, number: int, stage: Stage, state: Pruned) -> Pruned:
        """The rounds of a stage that are not done yet, the last of which lands on its limits."""
        done = sum(round_.stage == number for round_ in self.record.rounds)
        for left in range(self._rounds(stage) - done, 0, -1):
            what = f"pruning{f' to {stage.name}' if stage.name else ''}"
            self.report(what, len(self.record.rounds), sum(map(self._rounds, self.stages)))
            with self._timed("pruning"):
                scored = self._pruner.scored(state) if self.config.method == "nvit" else state
                if len(self.record.rounds) == 0:
                    self.record = self.record.model_copy(update={"spectrum": spectrum(scored.scores)})
                if left == 1:
                    self._remeasure(state.model.architecture)
                now = {metric: cost(state.model.architecture) for metric, cost in self.costs.items()}
                limits = {limit.metric.name: limit.value for limit in stage.limits}
                aims = {metric: between(now[metric], limit, 1 / left) for metric, limit in limits.items()}
                if left > 1:
                    state = self._pruner.recovered(self._cut(scored, aims, limits))
                else:
                    aims, state = self._landing(stage)(scored)
                self._keep(number, state, aims, timed=left == 1 or "latency" in limits)
        return state

    def _signed(self, model: Model, stage: Stage) -> Model:
        """`model` with a line of history about this stage; dropping layers has written its own."""
        config = self.config
        if config.method == "depth":
            return model
        arguments: dict[str, Any] = {
            "budget": [limit.text() for limit in stage.asked],
            **self.data.origin,
            "distilled": config.distill and config.settings.recovery > 0,
            "dropped": gone(self.model.architecture, model.architecture),
            **config.settings.model_dump(mode="json", exclude={"seed"}),
        }
        return model.then(Step(name="prune nvit", arguments=arguments, seed=config.settings.seed, version=__version__))

    def _rounds(self, stage: Stage) -> int:
        return stage.rounds if self.config.method == "nvit" else 1

    def _cut(self, state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        """`state` with less, so that the costs predict `aims`."""
        if self.config.method == "nvit":
            return self._pruner.cut(state, aims, final)

        def enough(architecture: Architecture) -> bool:
            return all(self.costs[metric](architecture) <= aim for metric, aim in aims.items())

        settings = self.config.settings
        drop = DropLayers(self.data, enough, limit=settings.calibration, device=str(pick_device()))
        return replace(state, model=drop(state.model), rounds=state.rounds + 1)

    def _landing(self, stage: Stage) -> Landing:
        def finished(model: Model) -> Model:
            model = self._signed(model, stage)
            return self._finish.signed(model, self.config)

        return Landing(self._cut, finished, self.assess, stage, self.model, self.report)

    def _remeasure(self, architecture: Architecture) -> None:
        """Times the parts as they are by now, so that the last cut need not trust what was timed of the dense model's."""
        last = self.record.rounds[-1:]
        if "latency" in self.costs and last:
            self.report("timing mixers and feed-forwards", 0, 0)
            self.costs["latency"].refine(architecture)
            correct(self.costs, architecture, last[0].costs)

    def _keep(self, number: int, state: Pruned, aims: Mapping[str, float], *, timed: bool) -> None:
        """Writes what a round left, the record last: where that speaks of a round, its model is there."""
        predicted = {metric: cost(state.model.architecture) for metric, cost in self.costs.items()}
        splits = {"acc": self.data.validation}
        readings = self.assess({"dense": self.model, "pruned": state.model}, splits, cap_s=QUICK_S, timed=timed)
        values = read_costs(self.costs, self.record.dense, readings["dense"], readings["pruned"])
        correct(self.costs, state.model.architecture, values)
        round_ = Round(
            stage=number,
            aims=dict(aims),
            architecture=state.model.architecture,
            readings=readings["pruned"],
            predicted=predicted,
            costs=values,
        )
        rounds = (*self.record.rounds, round_)
        save(state.model, self.work / f"round-{len(rounds)}.safetensors", force=True)
        if state.scores:
            with replacing(self.work / f"scores-{len(rounds)}.safetensors") as temporary:
                save_file({name: value.contiguous() for name, value in state.scores.items()}, temporary)
        self._note(rounds=rounds)
        for kind in ("round", "scores"):
            (self.work / f"{kind}-{len(rounds) - 1}.safetensors").unlink(missing_ok=True)

    # -------------------------------------------------------------------------------------------------- what is kept

    def _stage_path(self, number: int) -> Path:
        return self.work / f"stage-{number}.safetensors"

    def _state(self) -> Pruned:
        """Where the interrupted run stood."""
        number = len(self.record.rounds)
        if not number:
            return Pruned(self.model)
        scores = self.work / f"scores-{number}.safetensors"
        model = load(self.work / f"round-{number}.safetensors")
        last = self.record.rounds[-1]
        for before, round_ in pairwise(self.record.rounds):
            landed = round_.stage < last.stage or self._stage_path(round_.stage).exists()
            if "latency" in self.costs and landed and round_ is self._last_of(round_.stage):
                self.costs["latency"].refine(before.architecture)  # as it was before that landing
        correct(self.costs, last.architecture, last.costs)
        return Pruned(model, load_file(regular(scores, "scores")) if scores.exists() else {}, number)

    def _last_of(self, stage: int) -> Round:
        return [round_ for round_ in self.record.rounds if round_.stage == stage][-1]
