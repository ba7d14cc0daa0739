"""One of the processes that torchrun starts for `wb generate --pipeline`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from wb.core.system.files import read_text
from wb.jobs.generate.generating import Generating, vocabulary_of
from wb.jobs.running.processes import PATIENCE
from wb.models.files.history import tokenizer_of
from wb.models.staged.stored import Stored
from wb.scale.joining import joined
from wb.scale.launch import telling
from wb.scale.team import ProcessLost


def main(how: str, model: str) -> None:
    """Computes its part of every token; the first process draws them and gives the text."""
    torch.set_num_threads(1)
    asked = Generating.model_validate_json(read_text(Path(how), "how a text is continued"))
    with telling() as told, joined(patience=PATIENCE) as team:
        stored = Stored.at(Path(model))
        vocabulary = vocabulary_of(Path(model), tokenizer_of(stored.history), stored.architecture)
        try:
            for piece in asked.by(team, asked.line, stored, vocabulary, told.progress, told.say):
                told.give(piece)
        except ProcessLost as error:
            told.failed(error)
            raise


if __name__ == "__main__":
    main(*sys.argv[1:])
