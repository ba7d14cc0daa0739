"""`wb run`: what a network says of pictures or texts, or what texts cost it, computed by several processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.core.precision import computes_weights, precisions
from wb.core.system.files import scratch, write_text
from wb.jobs.inputs import Say
from wb.jobs.running.config import RunConfig
from wb.jobs.running.costs import Costs, cost
from wb.jobs.running.given import Examples, Lines, Pictures, given_inputs
from wb.jobs.running.processes import PATIENCE, lost, stored_at
from wb.jobs.verbs.classifier import Picture
from wb.jobs.verbs.predicting import Predictions
from wb.models.staged.line import Line
from wb.models.staged.stored import Stored
from wb.scale.joining import joined, started
from wb.scale.launch import launched
from wb.scale.team import ALONE
from wb.tasks.classes import CLASSES

WORKER = "wb.jobs.running.worker"
OUTPUTS = "outputs.npy"


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
        with stored_at(file, say) as stored:
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
            self.places.check_count(team.count)
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
        told = partial(lost, places=self.places)
        launched(self.places.count, WORKER, arguments, progress, say, tries=0, lost=told)
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


def _written(picture: Picture, number: int, folder: Path) -> str:
    """A path or a text as it is; an image or an array in a file of its own."""
    if isinstance(picture, str | Path):
        return str(Path(picture).absolute() if isinstance(picture, Path) else picture)
    raise BadOption(f"picture {number + 1} is in memory, and other processes read files; save it, or run one process")
