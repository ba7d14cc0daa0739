"""The training of a run's supernet, as one or several processes do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from wb.core.errors import BadOption
from wb.data import Dataset
from wb.data import load as load_data
from wb.models.model import load
from wb.scale.joining import joined, started
from wb.scale.launch import launched
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


@dataclass(frozen=True)
class Together:
    """How many `processes` train a supernet: as many as torchrun started around the command, else as many as are started now.

    `sequence` of them share the tokens of each example.
    """

    processes: int = 1
    sequence: int = 1

    def check(self) -> None:
        """Raises `BadOption` if they cannot be split so."""
        if self.processes < 1 or self.sequence < 1:
            raise BadOption(
                f"wrong option: {self.processes} processes, {self.sequence} of which share tokens; choose 1 or more of each"
            )
        if started() and self.processes > 1:
            raise BadOption("torchrun started this command, and --torchrun would start it again; leave one of them out")
        if not started() and self.count % self.sequence:
            raise BadOption(
                f"{self.processes} processes cannot be split into groups of {self.sequence} that share the tokens of an "
                "example; give --torchrun a multiple of --sequence-parallel"
            )

    @property
    def count(self) -> int:
        """How many processes are started; tokens that are shared need one for each share."""
        return self.sequence if self.processes == 1 else self.processes

    def trained(self, training: SupernetTraining, report: Report, say: Callable[[str], None]) -> Supernet:
        """The trained supernet, in this process.

        Raises:
            ProcessLost: a process ended, and all were not started again, or too often.
            WbError: what `train_supernet` raises, and options that do not fit.
        """
        if started():
            give(training.run, training.record)
            with joined(self.sequence) as team:
                return training(report, team)
        if self.count > 1:
            arguments = [str(training.run.folder), str(self.sequence)]
            launched(self.count, WORKER, arguments, lambda loss, epoch, of: report(epoch, of, float(loss)), say)
        return training(report)  # of several processes, at the end of what they have trained
