"""What four processes compute in a line, beside what one does: run by `test_line.py`, once as each of them.

The first one writes the differences and bytes to a file in JSON. At the end the third ends without a word, and the others say
whom they miss.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.networks import images
from wb.models.model import load
from wb.models.staged.line import Line, Ran
from wb.models.staged.stored import Stored
from wb.scale.joining import joined
from wb.scale.line.places import Places
from wb.scale.team import ALONE, ProcessLost, Team

EXAMPLES, BATCH = 11, 2
KILLED = 2  # the first share of the last stage
PLACES = {"pipeline": Places(4, 1), "tensor": Places(1, 4), "both": Places(2, 2)}


def quiet(*_: object) -> None:
    """No progress."""


@dataclass
class Given:
    """Inputs that are there; `before` is called with the number of each example that is taken."""

    inputs: NDArray[Any]
    before: Callable[[int], None] = quiet
    following = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> list[int] | None:
        ids = self.inputs.ndim == 2
        return [int(n) for n in (self.inputs >= 0).sum(axis=1)] if ids else None

    def take(self, index: NDArray[np.integer]) -> NDArray[Any]:
        self.before(int(index[-1]))
        found: NDArray[Any] = self.inputs[index]
        return found[:, : max(1, int((found >= 0).sum(axis=1).max()))] if found.ndim == 2 else found


def beside(team: Team, path: Path, line: Line) -> dict[str, Any]:
    """How far the outputs of the line are from those of one process and of the network, and what each process sent and held."""
    stored = Stored.at(path)
    given = Given(images(stored.architecture, EXAMPLES).numpy())
    ran = line(team, stored, given if team.leads else None, quiet)
    told = np.frombuffer(gathered(team, ran), np.int64).reshape(-1, 2)
    if not team.leads:
        return {}
    alone = Line(Places(), line.batch, dtype=line.dtype)(ALONE, stored, given, quiet)
    assert ran.outputs is not None
    assert alone.outputs is not None
    network = load(path).network().to(line.dtype)
    with torch.inference_mode():
        inputs = torch.from_numpy(given.inputs)
        whole = network(inputs.to(line.dtype) if inputs.is_floating_point() else inputs).numpy()
    apart = [float(np.abs(ran.outputs - other).max()) for other in (alone.outputs, whole)]
    return {"apart": max(apart), "sent": told[:, 0].tolist(), "held": told[:, 1].tolist(), "alone": alone.held}


def gathered(team: Team, ran: Ran) -> bytes:
    """What each process sent and held."""
    found = [torch.zeros(2, dtype=torch.int64) for _ in range(team.count)]
    torch.distributed.all_gather(found, torch.tensor([ran.sent, ran.held]))
    return torch.stack(found).numpy().tobytes()


def lost(team: Team, path: Path) -> str:
    """Whom a process misses once one has been killed, while batches are on their way."""
    given = Given(images(Stored.at(path).architecture, EXAMPLES).numpy())

    def progress(_: str, done: int, of: int) -> None:
        if team.rank == KILLED and done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        Line(PLACES["both"], 1)(team, Stored.at(path), given if team.leads else None, progress)
    except ProcessLost as error:
        return str(error)
    return "nobody"


def main(folder: Path) -> None:
    """All of it; `folder` has the models."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with joined() as team:
        for model in sorted(folder.glob("*.safetensors")):
            for name, places in PLACES.items():
                found[f"{model.stem} {name}"] = beside(team, model, Line(places, BATCH, dtype=torch.float64))
        model = folder / "ladder.safetensors"
        found["float32"] = beside(team, model, Line(PLACES["both"], BATCH))
        found["resident"] = beside(team, model, Line(PLACES["pipeline"], BATCH, 1 << 20))
        found["lost"] = lost(team, model)
    (folder / f"{team.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
