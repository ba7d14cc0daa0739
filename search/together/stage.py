"""The training of a run's supernet, as one or several processes do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from wb.data import Dataset
from wb.data import load as load_data
from wb.models.model import load
from wb.scale.joining import joined, started
from wb.scale.launch import launched
from wb.scale.processes import Processes
from wb.scale.team import ALONE, Team
from wb.search.beginning.recipes import supernet_recipe
from wb.search.fidelity.yardstick import ranking
from wb.search.run import Run, RunRecord
from wb.search.supernet import Supernet, train_supernet
from wb.search.together.leading import give
from wb.search.trained.start import sorted_by, space_of
from wb.spaces.base import NetworkSpace
from wb.training.fit import Report
from wb.training.recipes.recipe import Recipe

WORKER = "wb.search.together.worker"


@dataclass(frozen=True)
class SupernetTraining:
    """The training of the supernet of a `run` with that `record`, on `data` without what is held back."""

    run: Run
    record: RunRecord
    space: NetworkSpace
    data: Dataset

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return supernet_recipe(self.record.config, self.space, self.data)

    def __call__(self, report: Report | None = None, team: Team = ALONE) -> Supernet:
        """Trains, or continues; what `train_supernet` raises."""
        config = self.record.config
        start = None
        if config.start is not None:
            with team.copied(self.run.start_path) as path:
                start = sorted_by(load(path), self.data.train, config.seed)
        return train_supernet(
            self.space,
            self.data,
            self.recipe,
            seed=config.seed,
            start=start,
            checkpoint=self.run.checkpoint_path,
            report=report,
            team=team,
        )


def read_training(run: Run, record: RunRecord) -> SupernetTraining:
    """The same, in a process that has only the record: it reads the data itself.

    Raises:
        BadArtefact: they are not those that the run began with.
    """
    config = record.config
    torch.set_num_threads(config.threads)
    data = load_data(config.data, image_size=config.image_size, limit=config.limit)
    record.check_data(config.data, data.fingerprint)
    return SupernetTraining(run, record, space_of(config, data), ranking(data, record.held_back, record.part))


def trained(training: SupernetTraining, processes: Processes, report: Report, say: Callable[[str], None]) -> Supernet:
    """The trained supernet, in this process, by that many.

    Raises:
        ProcessLost: a process ended, and all were not started again, or too often.
        WbError: what `train_supernet` raises, and options that do not fit.
    """
    if started():
        give(training.run, training.record)
        with joined(processes.sequence) as team:
            return training(report, team)
    if processes.count > 1:
        arguments = [str(training.run.folder), str(processes.sequence)]
        launched(processes.count, WORKER, arguments, lambda loss, epoch, of: report(epoch, of, float(loss)), say)
    return training(report)  # of several processes, at the end of what they have trained
