"""The finished parts of a run, which a plan for continuing it leaves out. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from wb.core.errors import BadArtefact
from wb.models.files.torchfile import read_torch
from wb.search.beginning.config import SearchConfig
from wb.search.run import Run
from wb.search.study.study import read_evaluated


class There(NamedTuple):
    """Finished work of a run: epochs of the supernet's training, evaluations, exported finalists; `front` if all is done.

    `climbed` is the number of candidates that were trained alone for so many epochs.
    """

    epochs: int = 0
    evaluations: int = 0
    finalists: int = 0
    front: bool = False
    climbed: Mapping[int, int] = {}


def there(run: Run, config: SearchConfig) -> There:
    """The finished work that a search with `config` finds when it continues `run`.

    Raises:
        BadArtefact: the run or its study is damaged.
        StorageFailed: the study's database cannot be reached.
    """
    record = run.read()
    trials = read_evaluated(run.storage(config), record.study, config.metrics, config.limits)
    same = config.finetune == record.config.finetune
    staged = len(list(run.staging.glob("*.onnx"))) if same else 0
    front = run.front_path.exists() and record.finished == config.wanted
    climbed = {epochs: len(found) for epochs, found in record.rungs.items()}
    return There(_epochs(run, config), min(len(trials), config.trials), staged, front, climbed)


def _epochs(run: Run, config: SearchConfig) -> int:
    if run.supernet_path.exists():
        return config.epochs
    with suppress(BadArtefact):  # no checkpoint, or a damaged one, which is an error only when the training continues
        state: Any = read_torch(run.checkpoint_path, "the state of a training that `wb` left")
        epoch = state.get("epoch") if isinstance(state, dict) else None
        return min(epoch, config.epochs) if isinstance(epoch, int) else 0
    return 0
