"""Training one architecture from scratch, or a trained model further."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.jobs.calls.given import chosen, continues, path_of, saying, shown, sized
from wb.jobs.calls.results import Data, Model
from wb.jobs.frame.work import resumable

if TYPE_CHECKING:
    from wb.jobs.calls.given import Given


def train(
    out: str | Path | None = None,
    *,
    model: Given | None = None,
    data: str | Data | None = None,
    image_size: int | None = None,
    background: str | None = None,
    limit: int | None = None,
    preset: str = "auto",
    architecture: str | Path | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    seed: int = 0,
    threads: int = 1,
    torchrun: int = 1,
    sequence_parallel: int = 1,
    force: bool = False,
    quiet: bool = False,
    **recipe: Any,
) -> Model:
    """As `wb train`: one architecture from scratch or, as with `--from`, a trained `model` further.

    Raises as `wb.jobs.verbs.training.Training`. `recipe` are the fields of `wb.training.recipes.recipe.RecipeOptions`, and
    `teacher`, a file; with a model also `new_head`, `freeze` and `by_index`. `torchrun` processes train together,
    `sequence_parallel` of which share the tokens of each passage.
    """
    from wb.core.commands.option import structured
    from wb.jobs.frame.config import TrainConfig
    from wb.jobs.frame.output import config_of
    from wb.jobs.together.training import trained as trained_by
    from wb.jobs.verbs.training import Training
    from wb.scale.processes import Processes

    path = Path(out) if out else Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}" / "trained.safetensors"
    file, say = path_of(model), saying(quiet=quiet)
    given: dict[str, Any] = {"model": file, "preset": preset, "architecture": architecture or None, "epochs": epochs}
    given |= {"learning_rate": learning_rate, "batch": batch, "seed": seed, "threads": threads}
    given |= {**recipe, **sized(image_size, limit)}
    given = structured(TrainConfig, chosen(file, data, background, given, say))
    training = Training(config_of(TrainConfig, "train", given), path, force)
    processes = Processes(torchrun, sequence_parallel)
    processes.check()
    training.check()
    with shown(quiet=quiet) as progress, resumable(training.checkpoint, continues(training.checkpoint, path)):
        trained, _ = trained_by(training, processes, progress, say)
    return Model(path, trained)
