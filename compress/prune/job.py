"""`wb prune nvit` and `wb prune depth` from start to end: rounds, landing on the budget, fine-tuning, final readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from wb.compress.nvit.cost import Cost
from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import Pruned, between, check_reachable
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.cutter import Cutter, cutter_of
from wb.compress.prune.finish import Finish, spectrum
from wb.compress.prune.landing import Landing, correct, read_costs
from wb.compress.prune.record import Pruning, Round
from wb.compress.prune.stages import Stage, stages_of
from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.measures.metrics import LATENCIES, of_runs
from wb.core.system.files import regular, replacing
from wb.data import Dataset
from wb.export.assess import QUICK_S, Assessor
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device, parse_device
from wb.jobs.frame.job import Job
from wb.models.model import Model, load, save
from wb.models.passes.base import check
from wb.training.fit import pick_device
from wb.training.refit.judged import Refit

LOST = Refit(images=1, cut=0, refitted=None)  # one that is not kept


class PruneJob(Job[Pruning]):
    """One pruning: model, data and record; `out` is the model file to write, snapshots and graphs come beside it."""

    record_type = Pruning
    page = "wb.compress.prune.report:page"

    def __init__(
        self, record: Pruning, out: Path, progress: Progress, model: Model, data: Dataset, *, force: bool = False
    ) -> None:
        super().__init__(record, out, progress, force=force)
        self.model, self.data = model, data

    def make(self) -> None:
        """Prunes, fine-tunes, and reads the resulting models."""
        check_reachable(self.stages[-1].limits, self.costs, self.model, self.config.settings)
        state = self._state()
        for number, stage in enumerate(self.stages):
            if not self._stage_path(number).exists():
                state = self._prune(number, stage, state)
                model = self._cutter.signed(state, stage)
                check(f"prune {self.config.method}", self.model, model)
                save(model, self._stage_path(number), force=True)
            if not any(round_.stage > number for round_ in self.record.rounds):  # else `state` is of a later stage
                state = replace(state, model=load(self._stage_path(number)), rounds=len(self.record.rounds))
        models = [load(self._stage_path(number)) for number in range(len(self.stages))]
        with self.timed("fine-tuning"):
            tuned = [self._finish.finetuned(number, model, self.config) for number, model in enumerate(models)]
        with self.timed("final readings"):
            changes = self._finish.conclude(models, tuned, self.record)
        self.note(**changes)

    def files(self) -> Mapping[str, Path]:
        """Models and graphs to publish; a job begun by an older version has no graphs."""
        found = {}
        for number, result in enumerate(self.record.results):
            if result.graph is not None:
                found[self._finish.staged(number, ".onnx").name] = self.out.parent / result.graph
            found[self._finish.staged(number).name] = self.out.parent / result.model
        return found

    @property
    def config(self) -> PruneConfig:
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
        limits = of_runs(config.limits, continues=self.record.architecture.causal)
        return stages_of(limits, config.snapshots, config.settings.rounds, self.record.dense)

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """The cost model of every limited metric, calibrated to the dense model's readings."""
        metrics = list(dict.fromkeys(limit.metric.name for stage in self.stages for limit in stage.limits))
        table = LatencyTable(self.device) if set(metrics) & set(LATENCIES) else None
        what = "timing mixers and feed-forwards" if table else "counting mixers and feed-forwards"
        keep = frozenset(self.config.settings.keep)
        align = self.config.settings.rules(self.model.architecture).align

        def report(done: int, of: int) -> None:
            self.progress(what, done, of)

        with self.timed("costs"):
            costs = costs_of(metrics, self.model.architecture, table, keep=keep, align=align, progress=report)
        for metric, cost in costs.items():
            found, predicted = self.record.dense[metric].value, cost(self.model.architecture)
            if metric == "size":  # a file has a header besides its weights
                cost.constant += found - predicted
            else:
                cost.factor = found / predicted
        return costs

    @property
    def _timed(self) -> list[Cost]:
        """The cost models of latencies."""
        return [cost for metric, cost in self.costs.items() if metric in LATENCIES]

    @cached_property
    def _cutter(self) -> Cutter:
        return cutter_of(self.config, self.model, self.data, self.costs, self.teacher)

    @cached_property
    def _finish(self) -> Finish:
        return Finish(self.model, self.data, self.stages, self.work, self.out, self.teacher, self.assess, self.progress)

    @cached_property
    def teacher(self) -> Callable[[Tensor], Tensor] | None:
        """The dense network as the teacher, if the configuration asks for distillation."""
        return self.model.network(pick_device()) if self.config.distill else None

    @cached_property
    def assess(self) -> Assessor:
        """The assessor that reads whole models."""
        return Assessor(self.device, self.record.pace, seed=self.config.settings.seed)

    def _prune(self, number: int, stage: Stage, state: Pruned) -> Pruned:
        """Does the remaining rounds of a stage; the last of them lands on its limits."""
        done = sum(round_.stage == number for round_ in self.record.rounds)
        for left in range(self._cutter.rounds(stage) - done, 0, -1):
            what = f"pruning{f' to {stage.name}' if stage.name else ''}"
            self.progress(what, len(self.record.rounds), sum(map(self._cutter.rounds, self.stages)))
            with self.timed("pruning"):
                scored = self._cutter.scored(state)
                if len(self.record.rounds) == 0:
                    self.record = self.record.model_copy(update={"spectrum": spectrum(scored.scores)})
                if left == 1:
                    self._remeasure(state.model.architecture)
                now = {metric: cost(state.model.architecture) for metric, cost in self.costs.items()}
                limits = {limit.metric.name: limit.value for limit in stage.limits}
                aims = {metric: between(now[metric], limit, 1 / left) for metric, limit in limits.items()}
                refitting = partial(self.progress, "refitting what is left")
                if left > 1:
                    state = self._cutter.between(self._cutter.cut(scored, aims, limits), left - 1, refitting)
                else:
                    aims, state = self._landing(stage)(scored)
                    state = self._cutter.compensated(state, refitting)
                self._keep(number, state, aims, timed=left == 1 or any(metric in LATENCIES for metric in limits))
        return state

    def _landing(self, stage: Stage) -> Landing:
        def finished(model: Model) -> Model:
            """With the longer of the histories that it may have: whether a refit is kept is known only behind the landing."""
            signed = [self._cutter.signed(Pruned(model, refit=refit), stage) for refit in (None, LOST)]
            return self._finish.signed(max(signed, key=_told), self.config)

        return Landing(self._cutter.cut, finished, self.assess, stage, self.model, self.progress)

    def _remeasure(self, architecture: Architecture) -> None:
        """Times the parts at their present sizes, so that the last cut does not rest on timings of the dense model's."""
        last = self.record.rounds[-1:]
        if self._timed and last:
            self.progress("timing mixers and feed-forwards", 0, 0)
            for cost in self._timed:
                cost.refine(architecture)
            correct(self.costs, architecture, last[0].costs)

    def _keep(self, number: int, state: Pruned, aims: Mapping[str, float], *, timed: bool) -> None:
        """Saves what a round left, the record last: a round in the record always has its model file."""
        predicted = {metric: cost(state.model.architecture) for metric, cost in self.costs.items()}
        splits = {self.record.quality: self.data.validation}
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
            refit=state.refit,
        )
        rounds = (*self.record.rounds, round_)
        save(state.model, self.work / f"round-{len(rounds)}.safetensors", force=True)
        for kind, tensors in (("scores", state.scores), ("kept", state.kept)):
            if tensors:
                with replacing(self.work / f"{kind}-{len(rounds)}.safetensors") as temporary:
                    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
        self.note(rounds=rounds)
        for kind in ("round", "scores", "kept"):
            (self.work / f"{kind}-{len(rounds) - 1}.safetensors").unlink(missing_ok=True)

    def _stage_path(self, number: int) -> Path:
        return self.work / f"stage-{number}.safetensors"

    def _state(self) -> Pruned:
        """The state to continue from: the last recorded round, or the dense model."""
        number = len(self.record.rounds)
        if not number:
            with self.timed("pruning"):
                return Pruned(
                    self._cutter.rotated(self.model, partial(self.progress, "turning heads into their bases"))
                )
        scores, kept = (self._tensors(kind, number) for kind in ("scores", "kept"))
        model = load(self.work / f"round-{number}.safetensors")
        last = self.record.rounds[-1]
        for before, round_ in pairwise(self.record.rounds):
            landed = round_.stage < last.stage or self._stage_path(round_.stage).exists()
            if landed and round_ is self._last_of(round_.stage):
                for cost in self._timed:
                    cost.refine(before.architecture)  # the landing started from this architecture
        correct(self.costs, last.architecture, last.costs)
        refitted = any(round_.refit is not None and round_.refit.kept for round_ in self.record.rounds)
        return Pruned(model, scores, number, kept, last.refit, refitted)

    def _tensors(self, kind: str, number: int) -> dict[str, Tensor]:
        """What a round left in a file of that kind; nothing where it had nothing to leave."""
        path = self.work / f"{kind}-{number}.safetensors"
        return load_file(regular(path, kind)) if path.exists() else {}

    def _last_of(self, stage: int) -> Round:
        return [round_ for round_ in self.record.rounds if round_.stage == stage][-1]


def _told(model: Model) -> int:
    """How long a history is, which is part of a file's size."""
    return sum(len(step.model_dump_json()) for step in model.history)
