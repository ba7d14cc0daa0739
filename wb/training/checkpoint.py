"""The state of a training in a file, written after every epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wb.core.errors import BadArtefact, printable, reason
from wb.core.system.files import irregular, replacing
from wb.models.files.torchfile import read_torch
from wb.models.model import write_torch
from wb.training.average import Average
from wb.training.optimizer import Optimizer
from wb.training.recipes.mirrored import Mirrored
from wb.training.shared.sharded import Sharded


@dataclass
class State:
    """The state of a training after some epochs. `values` are weights and statistics by name; `run` says whose state it is.

    `epoch` epochs are finished, the last with the mean `loss`. `mirrored` is what the network made of mirrored
    images, once it was shown some.
    """

    values: Mapping[str, Tensor]
    optimizer: Optimizer | Sharded
    run: str
    average: Average | None = None
    epoch: int = 0
    loss: float = math.nan
    mirrored: Mirrored | None = None

    def store(self, path: Path, *, write: bool = True) -> None:
        """Writes the state, atomically. All processes of a training call it, and one of them is to `write`."""
        optimizer = self.optimizer.state_dict()  # which others may have a part of
        if not write:
            return
        content = {
            "weights": {name: value.detach() for name, value in self.values.items()},
            "optimizer": optimizer,
            "average": None if self.average is None else self.average.values,
            "mirrored": None if self.mirrored is None else list(self.mirrored),
            "run": self.run,
            "epoch": self.epoch,
            "loss": self.loss,
        }
        with replacing(path) as temporary:
            write_torch(content, temporary)

    def restore(self, path: Path) -> None:
        """Takes over the state in the file, if there is one.

        Raises:
            BadArtefact: it is damaged or belongs to another run.
        """
        if irregular(path) == "does not exist":
            return
        try:
            content: Any = read_torch(path, "the state of a training that `wb` left")
            if content["run"] == self.run:
                self._take(content)
                return
            other = printable(str(content["run"]), 1000)
        except Exception as error:  # a damaged state may raise anything
            raise BadArtefact(
                f"checkpoint {path} is damaged ({reason(error)}); delete it to train from the start"
            ) from error
        raise BadArtefact(f"checkpoint {path} belongs to a run with other settings ({other}); delete it to start over")

    def _take(self, content: Mapping[str, Any]) -> None:
        copied = [(self.values, content["weights"])]
        if self.average is not None:
            copied.append((self.average.values, content["average"]))
        for values, stored in copied:
            wrong = [n for n, w in values.items() if stored[n].shape != w.shape or stored[n].dtype != w.dtype]
            if wrong:  # copying would repeat or cut numbers
                raise BadArtefact(f"its weights are of another network, first {wrong[0]}")
        self.optimizer.load_state_dict(content["optimizer"])
        with torch.no_grad():
            for values, stored in copied:
                for name, value in values.items():
                    value.copy_(stored[name])
        self.epoch, self.loss = int(content["epoch"]), float(content["loss"])
        self.mirrored = None if content["mirrored"] is None else Mirrored(*content["mirrored"])
