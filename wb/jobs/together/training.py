"""`wb train` in one or several processes."""

from __future__ import annotations

from dataclasses import replace

from wb.core.commands.progress import Progress
from wb.core.measures.readings import Reading
from wb.jobs.inputs import Say
from wb.jobs.verbs.training import Training
from wb.models.model import Model, load
from wb.scale.joining import joined, started
from wb.scale.launch import launched
from wb.scale.processes import Processes

WORKER = "wb.jobs.together.worker"


def trained(training: Training, processes: Processes, progress: Progress, say: Say) -> tuple[Model, dict[str, Reading]]:
    """What `training` gives, by that many processes; those that torchrun started all call this.

    Raises:
        ProcessLost: a process ended, and all were not started again, or too often.
        WbError: as a training raises.
    """
    if started():
        with joined(processes.sequence) as team:
            return replace(training, team=team)(progress, say)
    if processes.count == 1:
        return training(progress, say)
    training.check()
    arguments = [
        training.config.model_dump_json(),
        str(training.out),
        str(int(training.force)),
        str(processes.sequence),
    ]
    launched(processes.count, WORKER, arguments, progress, say)
    model = load(training.out)
    readings = model.history[-1].readings
    return model, {name: readings[name] for name in ("validation", "test")}
