"""Writing safetensors files tensor by tensor, so that large models need no second copy in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES: Mapping[str, torch.dtype] = {  # as safetensors calls them
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Entry(NamedTuple):
    """A tensor of a file: its name, its type as safetensors calls it, and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def entries_of(weights: Mapping[str, Tensor]) -> list[Entry]:
    """The entries of tensors in the order of safetensors' own writer: larger types first, then by name."""
    found = [Entry(name, NAMES[weight.dtype], tuple(weight.shape)) for name, weight in weights.items()]
    return sorted(found, key=lambda one: (-DTYPES[one.dtype].itemsize, one.name))


def header_of(entries: Iterable[Entry], metadata: Mapping[str, str]) -> str:
    """The header of a file with these tensors, one behind the other; padded to a multiple of 8 bytes."""
    content: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name, dtype, shape in entries:
        end = at + math.prod(shape) * DTYPES[dtype].itemsize
        content[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return text + " " * (-len(text.encode()) % 8)


def write_tensors(path: Path, header: str, entries: Iterable[Entry], tensor: Callable[[str], Tensor]) -> None:
    """Writes a file with that header; `tensor` gives the tensors, which are converted to their types, one at a time."""
    encoded = header.encode()
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for one in entries:
            file.write(raw(tensor(one.name).to(DTYPES[one.dtype])))


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, without a copy where it is contiguous and on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
