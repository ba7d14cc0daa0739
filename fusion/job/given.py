"""The arguments of a fusion: models as files, or none, with data and options that fit them."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from wb.core.commands.option import option_of, structured
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.data import Dataset, load
from wb.fusion.job.begin import Files
from wb.fusion.job.config import EPOCHS, FuseConfig
from wb.jobs.frame.output import config_of
from wb.jobs.inputs import Say, choose, given_data, read_architecture
from wb.jobs.kinds import need_model
from wb.spaces.stock import Stock


def choose_data(given: Mapping[str, Any], models: Sequence[Path], background: str | None, say: Say) -> dict[str, Any]:
    """`given` with the data that it names, or those that all models were trained with; none for `none`, or if none are known.

    Raises:
        BadArtefact: a file is no model.
        BadOption: no models and no data.
    """
    spec, image_size, limit = (given.get(name) for name in ("data", "image_size", "limit"))
    if spec != "none" or background is not None:
        spec = given_data(spec, background)
        chosen = choose(models, spec, image_size, limit, say=say, needed=False, guess=False)
        return {**given, **chosen.fields}
    if not models:
        raise BadOption("--data none leaves nothing to train stock models with; give models, or data")
    return {**given, "data": None}


def configured(given: Mapping[str, Any], models: Sequence[Path]) -> FuseConfig:
    """The options of the command, by the names of fields, as a configuration; None is as not given, but for `data`.

    Raises:
        BadArtefact: `to` is no architecture.
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    given = {name: value for name, value in given.items() if value is not None or name == "data"}
    if given["data"] is None:
        for name in ("finetune", "calib", "limit", "image_size", "by_index", "truncate", "device"):
            if name in given and (name not in ("finetune", "by_index", "truncate") or given[name]):
                raise BadOption(f"{option_of(FuseConfig, name)} is of no use without data; name some with --data")
    given.setdefault("method", "regress" if given["data"] and not given.get("repair") else "orth")
    given.setdefault("finetune", 0 if models else EPOCHS)
    if "learning_rate" in given and not given["finetune"]:
        raise BadOption("--learning-rate is that of fine-tuning; add --finetune and a number of epochs")
    if "to" in given:
        given["to"] = read_architecture(given["to"])
    return config_of(FuseConfig, "fuse", structured(FuseConfig, given))


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
        data = load(config.data, image_size=config.image_size, limit=config.limit, own_words=False)
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
