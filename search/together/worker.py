"""One of the processes that torchrun starts for `wb search --torchrun`: `python -m wb.search.together.worker RUN SHARING`."""

from __future__ import annotations

import sys
from pathlib import Path

from wb.scale.joining import joined
from wb.scale.launch import telling
from wb.search.run import Run
from wb.search.together.stage import read_training


def main(folder: str, sequence: str) -> None:
    """Trains the supernet of the run in `folder` up to its last checkpoint."""
    with telling() as told:
        run = Run(Path(folder))
        training = read_training(run, run.read())
        with joined(int(sequence)) as team:
            training(lambda epoch, of, loss: told.progress(repr(loss), epoch, of), team)


if __name__ == "__main__":
    main(*sys.argv[1:])
