"""Known networks beside the finalists, made as these are; they are no part of the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.export.graph import export
from wb.models.model import Model
from wb.search.ending.tuner import Tuner, Wanted, Who
from wb.search.run import Run
from wb.training.fit import TrainingDiverged


class Beside(NamedTuple):
    """A known network, the graph that is judged with the finalists, and that which the test split sees."""

    model: Model
    path: Path
    tested: Path


def known_networks(
    known: Mapping[str, Architecture], who: Who, tuner: Tuner, run: Run, progress: Progress, *, retrain: bool
) -> dict[str, Beside]:
    """The networks, taught by `who`, with their graphs; those that are tested are trained once more, if the front's are."""
    wanted = {name: Wanted(architecture, who) for name, architecture in known.items()}
    folders = (run.judged, run.beside) if retrain else (run.beside, run.judged)
    made = _made(wanted, folders, tuner, progress, "training the known networks")
    if not retrain:
        return {name: Beside(model, path, path) for name, (model, path) in made.items()}
    wanted = {name: one._replace(whole=True) for name, one in wanted.items()}
    again = _made(wanted, (run.beside,), tuner, progress, "training the known networks once more")
    return {name: Beside(*made[name], again.get(name, made[name])[1]) for name in known}


def _made(
    wanted: Mapping[str, Wanted], folders: Sequence[Path], tuner: Tuner, progress: Progress, what: str
) -> dict[str, tuple[Model, Path]]:
    ready, made = 0, {}
    for ready, _ in enumerate(tuner.ahead(wanted, folders), start=1):
        progress(what, ready, len(wanted))
    for done, (name, one) in enumerate(wanted.items()):
        progress(what, max(done, ready), len(wanted))
        path = folders[0] / f"{name}.onnx"
        try:
            made[name] = tuner(name, one, folders), path
        except TrainingDiverged:
            if not one.whole:
                raise
        else:
            export(made[name][0], path, force=True)
    return made
