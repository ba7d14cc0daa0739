"""Known networks beside the finalists, made as these are; they are no part of the front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.export.graph import export
from wb.models.model import Model
from wb.search.ending.tuner import Tuner, Wanted, Who, all_of
from wb.search.run import Run
from wb.training.fit import TrainingDiverged


class Beside(NamedTuple):
    """A known network, the graph that is judged with the finalists, and that which the test split sees."""

    model: Model
    path: Path
    tested: Path


def known_networks(
    known: Mapping[str, Architecture],
    who: Who,
    tuner: Tuner,
    run: Run,
    progress: Progress,
    say: Callable[[str], None],
    *,
    retrain: bool,
) -> dict[str, Beside]:
    """The networks, taught by `who`, with their graphs; those that are tested are trained once more, if the front's are."""

    def failed(name: str, error: TrainingDiverged) -> None:
        say(f"the known network {name} is tested as it was judged; trained once more, {error}")

    def written(models: Mapping[str, Model], folder: Path) -> dict[str, Path]:
        for name, model in models.items():
            export(model, folder / f"{name}.onnx", force=True)
        return {name: folder / f"{name}.onnx" for name in models}

    wanted = {name: Wanted(architecture, who) for name, architecture in known.items()}
    folders = (run.judged, run.beside) if retrain else (run.beside, run.judged)
    models = all_of(tuner, wanted, folders, "training the known networks", progress)
    paths = tested = written(models, folders[0])
    if retrain:
        wanted = {name: one._replace(whole=True) for name, one in wanted.items()}
        again = all_of(tuner, wanted, (run.beside,), "training the known networks once more", progress, failed)
        tested = paths | written(again, run.beside)
    return {name: Beside(model, paths[name], tested[name]) for name, model in models.items()}
