"""Training one architecture from scratch."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from wb.jobs.calls import continues, data_of, shown, sized
from wb.jobs.results import Data, Model
from wb.jobs.work import resumable


def train(
    out: str | Path | None = None,
    *,
    data: str | Data = "digits",
    image_size: int | None = None,
    background: str | None = None,
    limit: int | None = None,
    preset: str = "auto",
    architecture: str | Path | None = None,
    epochs: int = 60,
    learning_rate: float | None = None,
    batch: int | None = None,
    seed: int = 0,
    threads: int = 1,
    force: bool = False,
    quiet: bool = False,
    **recipe: Any,
) -> Model:
    """As `wb train`: one architecture from scratch. Raises as `wb.jobs.training.Training`.

    `recipe` are the fields of `wb.training.recipe.RecipeOptions`, and `teacher`, a file.
    """
    from wb.core.option import structured
    from wb.data.spec import resolved
    from wb.jobs.config import TrainConfig
    from wb.jobs.output import config_of
    from wb.jobs.training import Training

    path = Path(out) if out else Path("runs") / f"train-{datetime.now():%Y%m%d-%H%M%S}" / "trained.safetensors"
    given: dict[str, Any] = {"preset": preset, "architecture": architecture or None, "epochs": epochs}
    given |= {"learning_rate": learning_rate, "batch": batch, "seed": seed, "threads": threads}
    given |= {**recipe, **data_of(data, background, sized(image_size, limit))}
    given = structured(TrainConfig, {**given, "data": resolved(given["data"])})
    training = Training(config_of(TrainConfig, "train", given), path, force)
    training.check()
    with shown(quiet=quiet) as progress, resumable(training.checkpoint, continues(training.checkpoint, path)):
        model, _ = training(progress)
    return Model(path, model)
