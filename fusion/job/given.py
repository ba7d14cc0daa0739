"""The arguments of a fusion: models as files, or none, with data and options that fit them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from wb.core.errors import BadOption
from wb.core.progress import Progress
from wb.data import Dataset, load
from wb.fusion.job.begin import Files
from wb.fusion.job.record import FuseConfig
from wb.jobs.inputs import Choice, Say, choose, given_data, read_architecture
from wb.jobs.kinds import need_model
from wb.jobs.names import option_of
from wb.jobs.output import config_of
from wb.spaces.stock import Stock

EPOCHS = 5  # of fine-tuning, by default, if no models are given


def choose_data(
    models: Sequence[Path],
    spec: str | None,
    background: str | None,
    image_size: int | None,
    limit: int | None,
    say: Say,
) -> Choice:
    """The data named by `spec`, or else the data that all models were trained with; none if `spec` is `none` or nothing is known.

    Raises:
        BadArtefact: a file is no model.
        BadOption: no models and no data.
    """
    if spec != "none" or background is not None:
        return choose(models, given_data(spec, background), image_size, limit, say=say, needed=False, guess=False)
    if not models:
        raise BadOption("--data none leaves nothing to train stock models with; give models, or data")
    return Choice(None, image_size, limit)


def configured(settings: Mapping[str, Any], *, to: Path | None, **given: Any) -> FuseConfig:
    """The options of the command as a configuration.

    Raises:
        BadArtefact: `to` is no architecture.
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    if given["data"] is None:
        for name in ("finetune", "calib", "limit", "image_size", "by_index", "device"):
            if given[name] is not None and (name not in ("finetune", "by_index") or given[name]):
                raise BadOption(f"{option_of(name)} is of no use without data; name some with --data")
    if given["learning_rate"] is not None and not given["finetune"]:
        raise BadOption("--learning-rate is that of fine-tuning; add --finetune and a number of epochs")
    optional = ("finetune", "learning_rate", "device")
    given = {name: value for name, value in given.items() if value is not None or name not in optional}
    target = None if to is None else read_architecture(to)
    return config_of(FuseConfig, "fuse", {**given, "settings": settings, "to": target})


def give_back() -> None:
    """Makes the C library return the memory of freed tensors to the system at once.

    glibc keeps freed blocks up to the largest size that it has seen freed. With two large models, half a model's memory would
    stay allocated. Only used without data, because training would be slower.
    """
    m_mmap_threshold = -3
    with suppress(AttributeError, OSError, TypeError):  # another system's library
        ctypes.CDLL(None).mallopt(m_mmap_threshold, 1 << 20)


def read(config: FuseConfig, models: Sequence[Path], progress: Progress) -> tuple[Dataset | None, Files]:
    """The data, if any, and the models' names and files; without models, two stock models are trained or read."""
    torch.set_num_threads(config.threads)
    for path in models:
        need_model(path)
    data = None
    if config.data is not None:
        progress("reading the data", 0, 0)
        data = load(config.data, image_size=config.image_size, limit=config.limit)
    if models or data is None:
        return data, [(str(path), path) for path in models]
    files = []
    for i, seed in enumerate((config.settings.seed, config.settings.seed + 1), start=1):
        stock = Stock(data, seed)

        def report(epoch: int, of: int, loss: float, number: int = i) -> None:
            progress(f"training stock model {number} of 2 once, loss {loss:.3f}", epoch, of)

        stock(report)
        files.append((f"stock model, seed {seed}", stock.path))
    return data, files
