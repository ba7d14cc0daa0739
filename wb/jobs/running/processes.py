"""What commands have in common that give parts of a network to processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from wb.core.system.files import scratch
from wb.foreign.reading import is_ours, load
from wb.jobs.inputs import Say
from wb.jobs.kinds import need_model
from wb.models.model import save
from wb.models.staged.stored import Stored
from wb.scale.launch import cause, ended
from wb.scale.line.places import Places
from wb.scale.team import ProcessLost

PATIENCE = timedelta(hours=1)  # for a stage that reads its weights; one that has ended is noticed at once


@contextmanager
def stored_at(file: Path, say: Say) -> Iterator[Stored]:
    """The model in a file of which processes read parts: itself, or a copy."""
    need_model(file)
    if file.suffix == ".safetensors" and is_ours(file):
        yield Stored.at(file)
        return
    with scratch() as folder:
        say(f"{file} is read whole and written anew, so that each process finds its part; .safetensors files are not")
        copy = folder / "model.safetensors"
        save(load(file), copy)
        yield Stored.at(copy)


def lost(text: str, places: Places) -> ProcessLost:
    """What became of the processes, by what torchrun said."""
    found = ended(text)
    if found is None:
        return ProcessLost(f"the processes of the line ended; the last they said: {cause(text)}")
    number, code = found
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    memory = (
        ", as the system does where memory is short; give more stages, or --resident" if code == -signal.SIGKILL else ""
    )
    said = f"; the last it said: {cause(text)}" if code > 0 else ""
    return ProcessLost(f"{places.called(number)} {how}{memory}, and so all others ended{said}")
