"""`wb sweep aspect` from start to end: all shapes timed together, then each trained with every seed and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.core.measures.readings import ratio
from wb.core.system.files import scratch
from wb.data import Dataset
from wb.export.assess import FINAL_S, Assessor
from wb.export.counting.count import count_model
from wb.export.graph import export
from wb.export.timing.runs import LATENCY, measure_runs
from wb.hardware.device import Device, parse_device
from wb.jobs.frame.begin import begin as taken_up
from wb.jobs.frame.begin import described
from wb.jobs.frame.job import Job
from wb.jobs.frame.output import PAGES, Output
from wb.jobs.frame.record import origin
from wb.jobs.sweep.config import AspectConfig
from wb.jobs.sweep.record import AspectSweep, Timing, Trial
from wb.jobs.sweep.shapes import Shape, shapes_of
from wb.models.counting import count_parameters
from wb.models.model import from_network
from wb.models.network import fresh
from wb.tasks.known import task_of
from wb.tasks.suited import check_fits
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import Recipe
from wb.training.train import train

OUTPUT = Output("sweep-aspect", "aspect.html", PAGES, "{path} is what the sweep reads")
COUNTED = ("size", "params", "macs")


def files_of(out: Path) -> list[Path]:
    """The files that are written."""
    return [out.with_suffix(".json"), out]


class AspectJob(Job[AspectSweep]):
    """One sweep over `data`."""

    record_type = AspectSweep
    page = "wb.jobs.sweep.report:page"

    def __init__(
        self, record: AspectSweep, out: Path, progress: Progress, data: Dataset, *, force: bool = False
    ) -> None:
        super().__init__(record, out, progress, force=force)
        self.data = data

    @property
    def config(self) -> AspectConfig:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """Where latency is measured."""
        return parse_device(self.config.device, threads=self.config.threads)

    @cached_property
    def recipe(self) -> Recipe:
        """How every shape is trained: alike, as the deepest would be."""
        return recipe_of(self.config, self.record.deepest.architecture, self.data)

    def make(self) -> None:
        """Times all shapes, then trains them seed by seed, so that what is there when it is stopped compares."""
        if not self.record.timings:
            with self.timed("timing"):
                self._time()
        seeds = [self.config.seed + k for k in range(self.config.seeds)]
        todo = [(seed, shape) for seed in seeds for shape in self.record.shapes]
        known = {(trial.seed, trial.shape) for trial in self.record.trials}
        for number, (seed, shape) in enumerate(todo, start=1):
            if (seed, shape.name) not in known:
                checkpoint = self.work / f"{number}.checkpoint"
                with self.timed("training"):
                    trial = self._trial(shape, seed, checkpoint, f"training {number} of {len(todo)}: {shape.name}")
                self.note(trials=(*self.record.trials, trial))
                checkpoint.unlink(missing_ok=True)

    def files(self) -> Mapping[str, Path]:
        """None but record and page: networks are trained to be compared."""
        return {}

    def written(self) -> list[Path]:
        """The record, then the page, which is the main file."""
        return files_of(self.out)

    def _time(self) -> None:
        """Sizes, and latencies of all shapes in one interleaved run for each length; weights do not matter to either."""
        self.progress("timing all shapes together", 0, 0)
        shapes = self.record.shapes
        with scratch() as folder:
            paths = {shape.name: folder / f"{number}.onnx" for number, shape in enumerate(shapes)}
            counted = {}
            for shape in shapes:
                export(from_network(shape.architecture, fresh(shape.architecture)), paths[shape.name])
                found = count_model(shape.architecture, paths[shape.name])
                counted[shape.name] = {name: found[name] for name in COUNTED}
            timings = [
                timing
                for tokens in lengths(self.config, self.record.deepest.architecture)
                for timing in self._timings(paths, tokens)
            ]
        self.note(counted=counted, timings=tuple(timings))

    def _timings(self, paths: Mapping[str, Path], tokens: int | None) -> list[Timing]:
        """One timing, or of networks that continue texts one of each kind of run."""
        continues = self.record.deepest.architecture.causal
        found = measure_runs(
            paths,
            self.device,
            continues=continues,
            cap_s=FINAL_S * len(paths),
            seed=self.config.seed,
            tokens=tokens,
        )
        deepest = found[self.record.deepest.name]
        metrics = [metric for metric in deepest if metric != LATENCY or not continues]
        return [
            Timing(
                metric=metric,
                tokens=tokens,
                latencies={name: own[metric].reading for name, own in found.items()},
                faster={name: ratio(deepest[metric].ratio, own[metric].ratio) for name, own in found.items()},
            )
            for metric in metrics
        ]

    def _trial(self, shape: Shape, seed: int, checkpoint: Path, what: str) -> Trial:
        """Trains a shape and scores its graph."""
        self.progress(what, 0, self.recipe.epochs)
        model = train(
            shape.architecture,
            self.data,
            self.recipe,
            seed=seed,
            checkpoint=checkpoint,
            report=lambda epoch, of, loss: self.progress(f"{what}, loss {loss:.3f}", epoch, of),
        )
        splits = {"validation": self.data.validation, "test": self.data.test}
        found = Assessor(self.device, seed=seed)({shape.name: model}, splits, timed=False)[shape.name]
        return Trial(shape=shape.name, seed=seed, validation=found["validation"], test=found["test"])


def begin(config: AspectConfig, data: Dataset, out: Path, progress: Progress, *, force: bool) -> AspectJob:
    """The job, new or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: another job's files lie beside `out`.
        BadData, Unsupported: data or a preset without shapes (`wb.jobs.sweep.shapes.shapes_of`).
        BadOption: a preset, a size or a length that there is not.
    """
    shapes = shapes_of(config, data)
    deepest = shapes[0].architecture
    check_fits(deepest, data)
    lengths(config, deepest)
    record = taken_up(AspectSweep, config, {"data": data.fingerprint}, out)
    if record is None:
        device = parse_device(config.device, threads=config.threads)
        record = AspectSweep(
            **origin(device.text),
            config=config,
            quality=task_of(deepest).metric,
            recipes={"training of all shapes": recipe_of(config, deepest, data).text},
            data=described(data),
            shapes=shapes,
        )
    return AspectJob(record, out, progress, data, force=force)


def recipe_of(config: AspectConfig, architecture: Architecture, data: Dataset) -> Recipe:
    """How a network is trained."""
    return recipe_for(
        config.training,
        count_parameters(architecture).value,
        data,
        config.passes(data),
        learning_rate=config.learning_rate,
        batch=config.batch,
    )


def lengths(config: AspectConfig, architecture: Architecture) -> Sequence[int | None]:
    """The numbers of tokens that are timed; None alone for images.

    Raises:
        BadOption: lengths of images, or texts longer than a network reads.
    """
    usual = architecture.input.usual_tokens
    if usual is None:
        if config.lengths:
            raise BadOption("--lengths is of texts, and an image has as many tokens as it has; leave it out")
        return (None,)
    longest = int(architecture.layout.shape[0])
    if any(length > longest for length in config.lengths):
        raise BadOption(
            f"--lengths {','.join(map(str, config.lengths))}: texts of these data have {longest} tokens at most; give fewer"
        )
    return tuple(dict.fromkeys(config.lengths or (min(usual, longest), longest)))
