"""Where a model comes from: what is needed to hand it back in the files that it came in. A step of its history holds it."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, Field, ValidationError
from torch import Tensor

from wb.core.errors import BadArtefact, reason
from wb.core.records import Frozen
from wb.foreign.form import Shape
from wb.foreign.given import Given
from wb.models.files.header import ORIGIN, Step
from wb.models.files.tensorfile import DTYPES, NAMES, Entry, raw

STEP = "import"  # the name of the step
MOST_KEPT = (
    1 << 18
)  # characters of all tensors together that a network does not use and that are handed back as they came
FLOATING = ("F64", "F32", "F16", "BF16")
_MOST_UNPACKED = 1032  # bytes that zlib makes of one, at most


def _plain(name: str) -> str:
    """The name of a file, if it leads nowhere else: model files are of anyone, and an export writes under these names."""
    if Path(name).name != name or name in ("", ".", "..") or not name.isprintable():
        raise ValueError(f"{name!r} is no name of a file")
    return name


def _beside(name: str) -> str:
    """The name of a text beside weights: those that are read are JSON, and no others are written."""
    if not _plain(name).endswith(".json"):
        raise ValueError(f"{name!r} is no name of a file of JSON")
    return name


def _known(dtype: str) -> str:
    """A type of numbers that there is."""
    if dtype not in DTYPES:
        raise ValueError(f"{dtype!r} is none of {', '.join(DTYPES)}")
    return dtype


FileName = Annotated[str, AfterValidator(_plain)]
TextName = Annotated[str, AfterValidator(_beside)]


class Kept(Frozen):
    """A tensor that the network does not use, as it came: a mask token, an index that follows from the sizes."""

    dtype: str
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    data: str  # base64 of its compressed bytes

    @staticmethod
    def of(tensor: Tensor) -> Kept:
        """The tensor as text."""
        data = base64.b64encode(zlib.compress(raw(tensor), 9)).decode()
        return Kept(dtype=NAMES[tensor.dtype], shape=tuple(tensor.shape), data=data)

    def tensor(self) -> Tensor:
        """The tensor again. Raises `BadArtefact` if its text is damaged, or stands for more than its shape says."""
        try:
            dtype = DTYPES[self.dtype]
            size = math.prod(self.shape) * dtype.itemsize
            most = min(size, _MOST_UNPACKED * len(self.data))  # a size that is noted may be any number
            content = bytearray(zlib.decompressobj().decompress(base64.b64decode(self.data), most + 1))
            if len(content) == size:
                found = torch.frombuffer(content, dtype=dtype) if size else torch.empty(0, dtype=dtype)
                return found.reshape(self.shape)
        except (ValueError, KeyError, zlib.error) as error:
            raise BadArtefact(f"what the model was imported from is noted, but damaged ({reason(error)})") from error
        raise BadArtefact(
            f"what the model was imported from is noted, but damaged: {self.shape} is no shape of its numbers"
        )


class StoredTensor(Frozen):
    """A tensor of a file by name, in the words of safetensors."""

    name: str
    dtype: Annotated[str, AfterValidator(_known)]
    shape: tuple[Annotated[int, Field(ge=0)], ...]


class StoredFile(Frozen):
    """A file of weights: its tensors in their order.

    `header` is that of a safetensors file, to the letter. In the file each name begins with `prefix`; in one of torch the tensors
    lie under the keys `wrapping`.
    """

    name: FileName
    tensors: tuple[StoredTensor, ...]
    header: str | None = None
    wrapping: tuple[str, ...] = ()
    prefix: str = ""

    def entries(self) -> list[Entry]:
        """Its tensors as it names them, to be written."""
        return [Entry(self.prefix + one.name, one.dtype, one.shape) for one in self.tensors]


class Origin(Frozen):
    """The family of a checkpoint, its files, and what else is handed back with them."""

    family: str
    given: Given = Given()
    files: tuple[StoredFile, ...]
    texts: Mapping[TextName, str] = {}  # by file name, to the letter
    kept: Mapping[str, Kept] = {}

    def dtypes(self) -> dict[str, str]:
        """The type of every tensor."""
        return {tensor.name: tensor.dtype for file in self.files for tensor in file.tensors}

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor."""
        return {tensor.name: tensor.shape for file in self.files for tensor in file.tensors}


def origin_of(history: Iterable[Step]) -> Origin | None:
    """Where a model comes from that was imported; None for one that was not, or if what is noted is damaged."""
    for step in history:
        if step.name == STEP and ORIGIN in step.arguments:
            try:
                return Origin.model_validate(step.arguments[ORIGIN])
            except ValidationError:
                return None
    return None
