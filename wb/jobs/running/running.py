"""`wb run`: what a network says of pictures or texts, or what texts cost it, computed by several processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.core.precision import computes_weights, precisions
from wb.core.system.files import scratch, write_text
from wb.foreign.reading import is_ours, load
from wb.jobs.inputs import Say
from wb.jobs.kinds import need_model
from wb.jobs.running.config import RunConfig
from wb.jobs.running.costs import Costs, cost
from wb.jobs.running.given import Examples, Lines, Pictures, given_inputs
from wb.jobs.verbs.classifier import Picture
from wb.jobs.verbs.predicting import Predictions
from wb.models.model import save
from wb.models.staged.line import Line
from wb.models.staged.stored import Stored
from wb.scale.joining import joined, started
from wb.scale.launch import cause, ended, launched
from wb.scale.line.places import Places
from wb.scale.team import ALONE, ProcessLost
from wb.tasks.classes import CLASSES

WORKER = "wb.jobs.running.worker"
OUTPUTS = "outputs.npy"
PATIENCE = timedelta(hours=1)  # for a stage that reads its weights; one that has ended is noticed at once


class Running(RunConfig):
    """Runs the network in a file; call it with what it is to be run on."""

    def __call__(
        self, file: Path, given: Sequence[Picture], progress: Progress, say: Say
    ) -> Predictions | Costs | None:
        """The predictions for pictures or texts, or for the data that the configuration names; of a network that continues texts
        what these cost it.

        None in all but the first of the processes that torchrun started around this one.

        Raises:
            BadArtefact: the file is no model, or damaged.
            BadData: pictures, texts or data that cannot be read, or do not fit.
            BadOption: more stages than blocks, heads that cannot be divided, or another number of processes.
            ProcessLost: a process ended.
            StorageFailed: there is no room for temporary files.
            Unsupported: a network that cannot be divided.
        """
        with _stored(file, say) as stored:
            line = line_of(self)
            line.check(stored)
            if not computes_weights(precisions(stored.architecture).values()):
                say(f"{file} has weights in int8 or int4 in its graph alone; here they are computed in floating point")
            if started():
                return self._among(file, stored, line, given, progress)
            inputs = given_inputs(self, stored, given)
            if self.places.count == 1:
                torch.set_num_threads(1)
                return self._said(file, stored, inputs, line(ALONE, stored, inputs, progress).outputs)
            with scratch() as folder:
                outputs = self._launched(stored, given, folder, progress, say)
            return self._said(file, stored, inputs, outputs)

    def _among(
        self, file: Path, stored: Stored, line: Line, given: Sequence[Picture], progress: Progress
    ) -> Predictions | Costs | None:
        """The same as one of the processes that torchrun started."""
        with joined(patience=PATIENCE) as team:
            if team.count != self.places.count:
                raise BadOption(
                    f"torchrun started {team.count} processes, and --pipeline {self.pipeline} --tensor {self.tensor} are "
                    f"{self.places.count}; start as many"
                )
            inputs = given_inputs(self, stored, given) if team.leads else None
            found = line(team, stored, inputs, progress)
        return None if inputs is None else self._said(file, stored, inputs, found.outputs)

    def _launched(
        self, stored: Stored, given: Sequence[Picture], folder: Path, progress: Progress, say: Say
    ) -> NDArray[Any]:
        """The outputs of processes that are started for it."""
        names = [_written(picture, number, folder) for number, picture in enumerate(given)]
        write_text(folder / "given.json", json.dumps(names))
        arguments = [self.model_dump_json(exclude_unset=True), str(stored.path), str(folder)]
        launched(
            self.places.count, WORKER, arguments, progress, say, tries=0, lost=lambda text: _lost(text, self.places)
        )
        return np.load(folder / OUTPUTS, allow_pickle=False)  # type: ignore[no-any-return]

    def _said(
        self, file: Path, stored: Stored, inputs: Pictures | Lines | Examples, outputs: NDArray[Any] | None
    ) -> Predictions | Costs:
        assert outputs is not None
        if inputs.following is not None:
            return Costs(file, inputs.names, inputs.following, outputs[:, 0], inputs.noun, inputs.cut)
        CLASSES.check_outputs(outputs, np.zeros(len(outputs), np.int64), str(file))
        labels = stored.architecture.head.labels or tuple(map(str, range(outputs.shape[1])))
        votes = CLASSES.votes(outputs)
        return Predictions(file, labels, inputs.names, votes, self.top, inputs.noun, inputs.cut)


def line_of(config: RunConfig) -> Line:
    """The processes of a configuration."""
    return Line(config.places, config.batch, config.resident, judged=cost)


@contextmanager
def _stored(file: Path, say: Say) -> Iterator[Stored]:
    """The model in a file of which processes read parts: itself, or a copy."""
    need_model(file)
    if file.suffix == ".safetensors" and is_ours(file):
        yield Stored.at(file)
        return
    with scratch() as folder:
        say(f"{file} is read whole and written anew, so that each process finds its part; .safetensors files are not")
        copy = folder / "model.safetensors"
        save(load(file), copy)
        yield Stored.at(copy)


def _written(picture: Picture, number: int, folder: Path) -> str:
    """A path or a text as it is; an image or an array in a file of its own."""
    if isinstance(picture, str | Path):
        return str(Path(picture).absolute() if isinstance(picture, Path) else picture)
    raise BadOption(f"picture {number + 1} is in memory, and other processes read files; save it, or run one process")


def _lost(text: str, places: Places) -> ProcessLost:
    """What became of the processes, by what torchrun said."""
    found = ended(text)
    if found is None:
        return ProcessLost(f"the processes of the line ended; the last they said: {cause(text)}")
    number, code = found
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    memory = (
        ", as the system does where memory is short; give more stages, or --resident" if code == -signal.SIGKILL else ""
    )
    said = f"; the last it said: {cause(text)}" if code > 0 else ""
    return ProcessLost(f"{places.called(number)} {how}{memory}, and so all others ended{said}")
