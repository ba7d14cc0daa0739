"""The models that a training keeps on its way, one file for each epoch, in a folder beside the model that comes of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from wb import __version__
from wb.core.errors import BadArtefact, BadOption
from wb.data import Dataset
from wb.models.model import Step, from_network, save
from wb.models.network import Network
from wb.training.statistics import find_statistics
from wb.training.train import written_with

STEP = "epoch"  # the name of their history's step, which says how many epochs there were


def kept_beside(out: Path) -> Path:
    """The folder for the model file `out`."""
    return out.with_name(f"{out.stem}.epochs")


def kept_in(folder: Path) -> list[Path]:
    """The kept models in a folder, in the order of epochs.

    Raises:
        BadArtefact: there are none.
    """
    found = sorted(
        (path for path in folder.glob("*.safetensors") if path.stem.isdigit()), key=lambda path: int(path.stem)
    )
    if not found:
        raise BadArtefact(
            f"{folder} has no models of epochs; `wb train --keep-checkpoints` leaves some in a folder of the name of its model "
            "that ends in .epochs. A search keeps none"
        )
    return found


@dataclass(frozen=True)
class Kept:
    """Keeps a network in training: called with it and the number of its epochs, writes `folder/<epochs>.safetensors`.

    Weights are those of the moment, also where a recipe averages them in the end. Batch norms get statistics of these weights;
    the network itself is not changed.
    """

    folder: Path
    data: Dataset

    def clear(self, *, force: bool) -> None:
        """Removes the models of an earlier training. Raises `BadOption` if there are some and `force` is false.

        The model before the first epoch alone is of a training that ended before its first checkpoint.
        """
        there = [path for path in self.folder.glob("*.safetensors") if path.stem.isdigit()]
        if not force and any(int(path.stem) for path in there):
            raise BadOption(
                f"{self.folder} has models of an earlier training; move it away, or say --force to replace them"
            )
        for path in there:
            path.unlink()

    def __call__(self, module: nn.Module, epoch: int) -> None:
        """Raises `StorageFailed` for a full disk."""
        network = copy.deepcopy(module)
        if not isinstance(network, Network):
            raise TypeError(f"{type(module).__name__} is no network of the workbench")
        find_statistics(network, self.data.train)
        arguments = {**self.data.origin, "epoch": epoch, **written_with(self.data.train)}
        step = Step(name=STEP, arguments=arguments, version=__version__)
        model = from_network(network.architecture, network, (step,))
        save(model, self.folder / f"{epoch:04d}.safetensors", force=True)
