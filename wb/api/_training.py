"""Training one architecture from scratch, a trained model further, or several shapes to compare them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.jobs.calls.given import chosen, continues, done, path_of, path_or_none, saying, shown, sized
from wb.jobs.calls.results import Data, Model, Result
from wb.jobs.frame.work import resumable

if TYPE_CHECKING:
    from wb.jobs.calls.given import Given
    from wb.jobs.sweep.record import AspectSweep


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


def sweep_aspect(
    data: str | Data | None = None,
    *,
    heads: int = 12,
    depths: str | Sequence[int] = (6, 3, 1),
    background: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result[AspectSweep]:
    """As `wb sweep aspect`. Raises `WbError` for whatever is wrong with the data or the options."""
    from wb.core.commands.option import by_field
    from wb.data import load
    from wb.jobs.sweep.config import AspectConfig, configured
    from wb.jobs.sweep.job import OUTPUT, begin, files_of
    from wb.jobs.sweep.report import table

    given = {**by_field(AspectConfig, options), "heads": heads, "depths": depths}
    config = configured(chosen(None, data, background, given, saying(quiet=quiet)))
    place = OUTPUT.place(path_or_none(out), [], files_of, force=force)
    with shown(quiet=quiet) as progress:
        read = load(config.data or "", image_size=config.image_size, limit=config.limit)
        return done(begin(config, read, place, progress, force=force), table)
