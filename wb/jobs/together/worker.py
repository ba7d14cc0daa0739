"""One of the processes that torchrun starts for `wb train --torchrun`."""

from __future__ import annotations

import sys
from pathlib import Path

from wb.jobs.frame.config import TrainConfig
from wb.jobs.verbs.training import Training
from wb.scale.joining import joined
from wb.scale.launch import telling


def main(config: str, out: str, force: str, sequence: str) -> None:
    """Trains as `config` says, in JSON; the first process writes `out`."""
    with telling() as told, joined(int(sequence)) as team:
        Training(TrainConfig.model_validate_json(config), Path(out), force == "1", team)(told.progress, told.say)


if __name__ == "__main__":
    main(*sys.argv[1:])
