"""`wb exits` from start to end: heads, latencies of the ways out, gates for a ladder of betas, readings over real examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from wb import __version__
from wb.compress.exits.config import ExitsConfig
from wb.compress.exits.gates import Candidates, Judged, crossed
from wb.compress.exits.heads import judged, right, tuned, with_heads
from wb.compress.exits.kept import kept
from wb.compress.exits.readings import Reader
from wb.compress.exits.record import EarlyExits, Rung, Way
from wb.core.commands.progress import Progress
from wb.core.measures.readings import Reading
from wb.core.system.files import scratch
from wb.data import Dataset
from wb.export.exits.graph import export_exiting
from wb.hardware.device import Device, parse_device
from wb.jobs.frame.job import Job
from wb.jobs.frame.tune import tuning
from wb.models.exits.files import load_exiting, save_exiting
from wb.models.exits.module import Exiting
from wb.models.exits.record import Exits
from wb.models.model import Model, Step
from wb.tasks.base import Grades
from wb.tasks.known import task_of
from wb.training.fit import pick_device
from wb.training.recipes.recipe import Recipe

HEADS = "heads.safetensors"


class ExitsJob(Job[EarlyExits]):
    """One such job: the model without exits, or the one with exits whose gates are trained anew; data and record."""

    record_type = EarlyExits
    page = "wb.compress.exits.report:page"

    def __init__(
        self,
        record: EarlyExits,
        out: Path,
        progress: Progress,
        model: Model | Exiting,
        data: Dataset,
        *,
        force: bool = False,
    ) -> None:
        super().__init__(record, out, progress, force=force)
        self.model, self.data = model, data

    @property
    def config(self) -> ExitsConfig:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """Where latency is measured."""
        return parse_device(self.config.device, threads=self.config.threads)

    @property
    def trunk(self) -> Model:
        """The network without exits that all is compared with."""
        return self.model.trunk if isinstance(self.model, Exiting) else self.model

    @property
    def recipe(self) -> Recipe:
        """How the trunk is tuned with its exits."""
        return tuning(self.config, self.trunk.architecture, self.data)

    def make(self) -> None:
        """Makes heads, times the ways out, trains gates, and reads what comes of them."""
        with self.timed("heads"):
            model = self._with_heads()
        self.progress("answers of all exits", 0, 0)
        held = judged(model.network(pick_device()), self.data.validation)
        own = held.answers[-1].argmax(1) == held.labels
        if self.config.epochs:  # the trunk was tuned since
            own = right(self.trunk.network(pick_device()), self.data.validation)
        if not self.record.ways:
            with self.timed("timing the ways out"):
                self._time(model, held, own)
        model = replace(
            model, record=model.record.model_copy(update={"costs": tuple(way.latency for way in self.record.ways)})
        )
        with self.timed("gates"):
            every = self._gates(held, own, model)
        with self.timed("final readings"):
            changes = self._conclude(every)
        self.note(**changes)

    def files(self) -> Mapping[str, Path]:
        """The model and its graph."""
        return {"result.onnx": self.out.with_suffix(".onnx"), "result.safetensors": self.out}

    def _with_heads(self) -> Exiting:
        """The network with heads, its trunk tuned if that is asked for; if it is in `work` already, it is read back."""
        if isinstance(self.model, Exiting):
            return self.model
        path = self.work / HEADS
        if not path.exists():
            self.progress("fitting heads", 0, 0)
            found = with_heads(self.model, Exits(after=self.record.after), self.data)
            if self.config.epochs:
                found = self._tuned(found)
            save_exiting(found, path, force=True)
        return load_exiting(path)

    def _tuned(self, model: Exiting) -> Exiting:
        def report(epoch: int, of: int, loss: float) -> None:
            self.progress(f"tuning trunk and exits, loss {loss:.3f}", epoch, of)

        return tuned(
            model,
            self.data,
            self.recipe,
            self.trunk.network(pick_device()),
            seed=self.config.seed,
            checkpoint=self.work / "heads.checkpoint",
            report=report,
        )

    def _time(self, model: Exiting, held: Judged, own: Tensor) -> None:
        """Latencies of all ways out and of the network without exits, in one run, and what each way answers.

        `own` (n) says where the network without exits is right.
        """
        self.progress("timing the ways out", 0, 0)
        found = Reader(self.device, self.config.seed).ways(model, self.trunk)
        read = [self._accuracy(answer.argmax(1) == held.labels, held) for answer in held.answers]
        ways = [
            Way(name=name, latency=found[name], validation=v) for name, v in zip(model.record.names, read, strict=True)
        ]
        self.note(ways=tuple(ways), alone=found["alone"], whole=self._accuracy(own, held))

    def _accuracy(self, where: Tensor, held: Judged) -> Reading:
        grades = Grades(where.numpy(), held.labels.numpy())
        return task_of(self.trunk.architecture).reading(grades, f"torch {pick_device()}")

    def _gates(self, held: Judged, own: Tensor, model: Exiting) -> dict[float | None, Exiting]:
        """The network with gates for all betas, and with those that keep the accuracy (None).

        The record has what they do on validation images that they were not trained on.
        """
        self.progress("training gates", 0, 0)
        betas, shares, seed = self.config.betas, model.record.shares, self.config.seed
        joint = kept(held, own, shares, seed)
        if not self.record.rungs:
            rungs = [self._rung(beta, one, held) for beta, one in crossed(held, shares, betas, seed).items()]
            rungs.append(self._rung(None, joint.crossed, held))
            self.note(rungs=tuple(rungs), beta=self._chosen(rungs, shares))
        candidates = Candidates(held, shares, betas)
        every: dict[float | None, Exiting] = {beta: model.gated(candidates.best(beta), beta) for beta in betas}
        every[None] = model.gated(joint.gates, None)
        return every

    def _rung(self, beta: float | None, left: Tensor, held: Judged) -> Rung:
        """What is known of gates by which validation images leave at these exits (n)."""
        answers = torch.stack(held.answers, dim=1)[torch.arange(len(left)), left]
        shares = tuple(float((left == k).float().mean()) for k in range(len(held.answers)))
        return Rung(beta=beta, validation=self._accuracy(answers.argmax(1) == held.labels, held), crossed=shares)

    def _chosen(self, rungs: Sequence[Rung], shares: Sequence[float]) -> float | None:
        """The beta that was asked for, else of the rungs as accurate as the network without exits the cheapest."""
        if self.config.beta is not None:
            return self.config.beta
        least = self.record.whole.value if self.record.whole is not None else 0.0
        enough = [rung for rung in rungs if rung.validation.value >= least]

        def cost(rung: Rung) -> float:
            return sum(share * part for share, part in zip(shares, rung.crossed, strict=True))

        return min(enough, key=cost).beta if enough else 0.0

    def _conclude(self, every: Mapping[float | None, Exiting]) -> dict[str, object]:
        """Reads all rungs from their graphs; writes the result into `work` and returns the record's changes."""
        reader = Reader(self.device.here, self.config.seed, self.progress)
        found = reader.rungs(every, self.trunk, self.data.test, self.record)
        beta = self.record.beta
        arguments: dict[str, JsonValue] = {
            **self.data.origin,
            "after": list(self.record.after),
            "beta": beta,
            "epochs": self.config.epochs,
            "parent": self.record.model_key,
            "gates": "anew" if self.record.given else "first",
        }
        rung = next(one for one in found.rungs if one.beta == beta)
        readings = {name: one for name, one in (("test", rung.test), ("latency", rung.latency)) if one is not None}
        step = Step(name="exits", arguments=arguments, readings=readings, seed=self.config.seed, version=__version__)
        final = replace(every[beta], trunk=every[beta].trunk.then(step))
        save_exiting(final, self.work / "result.safetensors", force=True)
        with scratch() as folder:
            parity = export_exiting(final, folder / "x.onnx")
            (folder / "x.onnx").replace(self.work / "result.onnx")
        return {
            "rungs": found.rungs,
            "without": found.without,
            "parity": parity,
            "model": self.out.name,
            "graph": self.out.with_suffix(".onnx").name,
        }
