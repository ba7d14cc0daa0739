"""The weights of a model file, of which a process reads those that it computes with, tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported, printable, reason
from wb.models.exits.record import KEY as EXITS
from wb.models.files.header import EXPECTED, Step, described, metadata_in
from wb.models.model import single
from wb.models.network import skeleton
from wb.models.staged.shares import Share


@dataclass(frozen=True)
class Stored:
    """The model in a .safetensors file, as it was when it was first looked at."""

    path: Path
    architecture: Architecture
    history: tuple[Step, ...]
    stamp: tuple[int, int]

    @staticmethod
    def at(path: Path) -> Stored:
        """The model at `path`; names and shapes of its weights are compared with the architecture, values are not read.

        Raises:
            BadArtefact: no such file, damaged, or weights that do not fit.
            Unsupported: it has early exits.
        """
        metadata = metadata_in(path)
        if EXITS in metadata:
            raise Unsupported(
                f"{path} has early exits, which decide by what one process knows of an image; run it with wb predict"
            )
        architecture, history = described(metadata, path)
        stored = Stored(path, architecture, history, _stamp(path))
        expected = {name: tuple(weight.shape) for name, weight in skeleton(architecture).named_parameters()}
        with stored._open() as file:
            given = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
        wrong = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
        if wrong:
            raise BadArtefact(
                f"{path}: {len(wrong)} weights do not fit the architecture, the first is {printable(wrong[0])}: given "
                f"{given.get(wrong[0], 'nothing')}, expected {expected.get(wrong[0], 'nothing')}"
            )
        return stored

    def read(self, names: Iterable[str], share: Share) -> Iterator[tuple[str, Tensor]]:
        """Those of a share's weights, one by one, in single precision.

        Raises:
            BadArtefact: the file was replaced meanwhile, or weights are not finite.
        """
        with self._open() as file:
            for name in names:
                yield name, self._one(file, name, share)

    def _one(self, file: Any, name: str, share: Share) -> Tensor:
        cut = share.cut.get(name)
        if cut is None:
            weight: Tensor = file.get_tensor(name)
        else:
            part = file.get_slice(name)
            ends = [cut.get(dim, (0, size)) for dim, size in enumerate(part.get_shape())]
            weight = part[tuple(slice(begin, end) for begin, end in ends)]
        if name in share.left:
            return torch.zeros_like(weight, dtype=torch.float32)
        whole = single(weight, name, self.path)
        if not torch.isfinite(whole).all():
            raise BadArtefact(f"{self.path} has NaN or infinite weights in {printable(name)}; train or export it again")
        return whole

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The file, which is memory-mapped until it is closed again."""
        if _stamp(self.path) != self.stamp:
            raise BadArtefact(f"{self.path} was replaced while it was read; try again")
        try:
            with safe_open(self.path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise BadArtefact(f"{self.path} is damaged ({reason(error)}); expected {EXPECTED}") from error


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise BadArtefact(f"{path} cannot be read ({reason(error)}); expected {EXPECTED}") from error
    return found.st_ino, found.st_mtime_ns
