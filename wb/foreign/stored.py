"""One file of tensors: opening, reading tensor by tensor, and writing it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from wb.core.errors import BadArtefact, printable, reason
from wb.core.system.files import regular, replacing
from wb.foreign.origin import StoredFile, StoredTensor
from wb.models.files.tensorfile import DTYPES, NAMES, header_of, write_tensors
from wb.models.files.torchfile import read_torch
from wb.models.model import write_torch

TENSORS = "a state dict: tensors by name"
# Keys under which trainers keep a state dict, averages of the weights first.
WRAPPINGS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "module", "net", "params",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.", "model.", "ema_model.")  # of names that wrappers of modules make
_PART = 32 << 20  # bytes of a mapped file to read before it is opened anew


class Opened(NamedTuple):
    """A file's description, and what reads one of its tensors by name."""

    stored: StoredFile
    read: Callable[[str], Tensor]
    notes: tuple[str, ...] = ()


def open_file(path: Path) -> Opened:
    """Opens a file of tensors. Raises `BadArtefact` if it is none, or damaged."""
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_torch(path)


# ---------------------------------------------------------------------------------------------------------- safetensors


def _open_safetensors(path: Path) -> Opened:
    regular(path, TENSORS)
    try:
        with safe_open(path, framework="pt"):  # checks sizes, places and the end
            pass
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little")).decode()
        content: dict[str, Any] = json.loads(header)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadArtefact(
            f"{path} is no safetensors file, or is truncated or damaged ({reason(error)}); copy it again"
        ) from error
    content.pop("__metadata__", None)
    order = sorted(content, key=lambda name: content[name]["data_offsets"])
    unknown = [name for name in order if content[name]["dtype"] not in DTYPES]
    if unknown:
        raise BadArtefact(
            f"{path} has {content[unknown[0]]['dtype']} numbers in {printable(unknown[0])}; expected {', '.join(DTYPES)}"
        )
    tensors = [StoredTensor(name=name, dtype=content[name]["dtype"], shape=content[name]["shape"]) for name in order]
    return Opened(StoredFile(name=path.name, tensors=tuple(tensors), header=header), _Mapped(path))


class _Mapped:
    """Reads copies of tensors. An open file is mapped, and its read pages count as memory, so that it is opened anew often."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self.file: Any = None

    def __call__(self, name: str) -> Tensor:
        if self.file is None or self.size > _PART:
            self.size, self.file = 0, None
            self.file = safe_open(self.path, framework="pt")
        try:
            found: Tensor = self.file.get_tensor(name).clone()
        except SafetensorError as error:
            raise BadArtefact(f"{self.path} was replaced while it was read ({reason(error)}); try again") from error
        self.size += found.nbytes
        return found


def write_safetensors(path: Path, stored: StoredFile, tensor: Callable[[str], Tensor], *, force: bool) -> None:
    """Writes a file with the header and the tensors of `stored`; `tensor` gives one at a time.

    Raises:
        BadArtefact: the header is not of these tensors; model files, which note it, are of anyone.
        BadOption, StorageFailed: as `replacing` does.
    """
    entries = stored.entries()
    if stored.header is not None and _places(stored.header) != _places(header_of(entries, {})):
        raise BadArtefact("what the model was imported from is noted, but damaged: a header is not that of its tensors")
    with replacing(path, force=force) as temporary:
        write_tensors(temporary, stored.header or header_of(entries, {"format": "pt"}), entries, tensor)


def _places(header: str) -> Any:
    """The types, shapes and places of tensors in a header; None if it is none."""
    try:
        content = json.loads(header)
    except (ValueError, RecursionError):
        return None
    return {name: one for name, one in content.items() if name != "__metadata__"} if isinstance(content, dict) else None


# ---------------------------------------------------------------------------------------------------------------- torch


def _open_torch(path: Path) -> Opened:
    weights, wrapping, others = _unwrapped(read_torch(path, TENSORS), path)
    prefix = ""
    while found := next((p for p in PREFIXES if all(name.startswith(prefix + p) for name in weights)), None):
        prefix += found
    tensors = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES:
            raise BadArtefact(f"{path} has {tensor.dtype} numbers in {printable(name)}; expected {', '.join(DTYPES)}")
        if tensor.untyped_storage().nbytes() < tensor.nbytes:
            raise BadArtefact(f"{path} has less numbers in {printable(name)} than its shape says; copy it again")
    stored = [StoredTensor(name=name, dtype=NAMES[one.dtype], shape=tuple(one.shape)) for name, one in tensors.items()]
    notes = [f"{path.name}: the weights are under {'.'.join(wrapping)!r}"] if wrapping else []
    if others:
        notes.append(f"{path.name}: left out, as it is not of the weights: {', '.join(map(printable, others[:8]))}")
    file = StoredFile(name=path.name, tensors=tuple(stored), wrapping=tuple(wrapping), prefix=prefix)
    return Opened(file, lambda name: tensors.pop(name), tuple(notes))


def _unwrapped(content: Any, path: Path) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The state dict in the content of a file, the keys that lead to it, and what stands beside it."""
    wrapping: list[str] = []
    others: list[str] = []
    while isinstance(content, dict):
        tensors = {
            name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)
        }
        if tensors:
            return tensors, wrapping, others + [str(name) for name in content if name not in tensors]
        key = next((key for key in WRAPPINGS if isinstance(content.get(key), dict)), None)
        if key is None or len(wrapping) > 3:
            break
        others += [str(name) for name in content if name != key]
        wrapping.append(key)
        content = content[key]
    kind = (
        f"a dictionary of {', '.join(map(printable, map(str, list(content)[:6])))}" if isinstance(content, dict) else ""
    )
    raise BadArtefact(
        f"{path} is a torch file, but holds {kind or f'a {type(content).__name__}'}; expected {TENSORS}, perhaps under one of "
        f"{', '.join(WRAPPINGS)}"
    )


def write_state_dict(path: Path, stored: StoredFile, tensor: Callable[[str], Tensor], *, force: bool) -> None:
    """Writes a file of torch with the tensors of `stored`, wrapped and named as it says. Raises as `replacing` does."""
    content: Any = {
        stored.prefix + one.name: tensor(one.name).to(DTYPES[one.dtype]).contiguous() for one in stored.tensors
    }
    for key in reversed(stored.wrapping):
        content = {key: content}
    with replacing(path, force=force) as temporary:
        write_torch(content, temporary)
