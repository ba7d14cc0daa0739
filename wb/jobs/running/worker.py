"""One of the processes that torchrun starts for `wb run --pipeline`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from wb.core.system.files import read_text, replacing
from wb.jobs.running.config import RunConfig
from wb.jobs.running.given import given_inputs
from wb.jobs.running.processes import PATIENCE
from wb.jobs.running.running import OUTPUTS, line_of
from wb.models.staged.stored import Stored
from wb.scale.joining import joined
from wb.scale.launch import telling
from wb.scale.team import ProcessLost


def main(config: str, model: str, folder: str) -> None:
    """Runs its part of the line; the first process reads what was given and writes the outputs, both in `folder`."""
    torch.set_num_threads(1)
    asked = RunConfig.model_validate_json(config)
    with telling() as told, joined(patience=PATIENCE) as team:
        stored = Stored.at(Path(model))
        given = json.loads(read_text(Path(folder) / "given.json", "what was given"))
        inputs = given_inputs(asked, stored, given) if team.leads else None
        try:
            found = line_of(asked)(team, stored, inputs, told.progress)
        except ProcessLost as error:
            told.failed(error)
            raise
        if found.outputs is not None:
            with replacing(Path(folder) / OUTPUTS) as path, path.open("wb") as file:
                np.save(file, found.outputs, allow_pickle=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
