"""One file of tensors: opening, reading tensor by tensor, and writing it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
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
MODULES = ("module", "_orig_mod", "ema_model")  # what wrappers of modules have their names begin with
OWN = ("model.layers.", "model.embed_tokens.")  # of a decoder of transformers whose head is tied, no wrapper's
AVERAGED = "ema_model."  # of names of averages that stand beside the weights themselves, which begin otherwise
_DEEP = 3  # dictionaries in dictionaries that are looked into
_PART = 32 << 20  # bytes of a mapped file to read before it is opened anew


class Opened(NamedTuple):
    """A file's description, and what reads one of its tensors by name."""

    stored: StoredFile
    read: Callable[[str], Tensor]
    notes: tuple[str, ...] = ()


def open_file(path: Path, *, whole: bool) -> Opened:
    """Opens a file of tensors. What all names of a `whole` network begin with, as in `backbone.blocks.0`, is left out of them.

    Raises:
        BadArtefact: it is none, or damaged.
    """
    return _open_safetensors(path, whole) if path.suffix == ".safetensors" else _open_torch(path, whole)


# ---------------------------------------------------------------------------------------------------------- safetensors


def _open_safetensors(path: Path, whole: bool) -> Opened:
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
    prefix = _shared(order, whole)
    tensors = tuple(
        StoredTensor(name=name.removeprefix(prefix), dtype=content[name]["dtype"], shape=content[name]["shape"])
        for name in order
    )
    mapped = _Mapped(path)
    stored = StoredFile(name=path.name, tensors=tensors, header=header, prefix=prefix)
    return Opened(stored, lambda name: mapped(prefix + name))


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
    own = len(stored.prefix)
    if stored.header is not None and _places(stored.header) != _places(header_of(entries, {})):
        raise BadArtefact("what the model was imported from is noted, but damaged: a header is not that of its tensors")
    with replacing(path, force=force) as temporary:
        write_tensors(
            temporary, stored.header or header_of(entries, {"format": "pt"}), entries, lambda name: tensor(name[own:])
        )


def _places(header: str) -> Any:
    """The types, shapes and places of tensors in a header; None if it is none."""
    try:
        content = json.loads(header)
    except (ValueError, RecursionError):
        return None
    return {name: one for name, one in content.items() if name != "__metadata__"} if isinstance(content, dict) else None


# ---------------------------------------------------------------------------------------------------------------- torch


def _open_torch(path: Path, whole: bool) -> Opened:
    weights, wrapping, others = _unwrapped(read_torch(path, TENSORS), path)
    prefix = _shared(weights, whole)
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
        tensors = _weights(content)
        # Tensors whose names have no point may stand beside the weights: a loss, or a step.
        key = None if any("." in name for name in tensors) else _wrapper(content, path)
        if tensors and key is None:
            return tensors, wrapping, others + _unlike(content, tensors)
        if key is None or len(wrapping) > _DEEP:
            break
        others += [str(name) for name in content if name != key]
        wrapping.append(key)
        content = content[key]
    listed = ", ".join(map(printable, map(str, list(content)[:6]))) if isinstance(content, dict) else ""
    kind = (f"a dictionary of {listed}" if listed else "nothing") if isinstance(content, dict) else ""
    raise BadArtefact(
        f"{path} is a torch file, but holds {kind or f'a {type(content).__name__}'}; expected {TENSORS}, perhaps under one of "
        f"{', '.join(WRAPPINGS)}"
    )


def _weights(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors by name in a dictionary: averages where they stand beside the weights, without what counts their updates."""
    found = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    averages = {name: value for name, value in found.items() if name.startswith(AVERAGED)}
    kept = averages or found
    return {name: value for name, value in kept.items() if "." in name or value.dim() or value.is_floating_point()}


def _unlike(content: Mapping[Any, Any], tensors: Mapping[str, Tensor]) -> list[str]:
    """What stands beside tensors; other weights by what their names begin with."""
    return list(dict.fromkeys(_first(str(name)) for name in content if name not in tensors))


def _first(name: str) -> str:
    return f"{name.partition('.')[0]}.…" if "." in name else name


def _wrapper(content: Mapping[Any, Any], path: Path) -> str | None:
    """The key of a dictionary under which the weights are: one of `WRAPPINGS`, or the only one with tensors by name.

    Raises:
        BadArtefact: there are several such.
    """
    usual = next((key for key in WRAPPINGS if _holds(content.get(key))), None)
    if usual is not None:
        return usual
    holding = [key for key, value in content.items() if _holds(value)] or [
        key for key, value in content.items() if isinstance(value, dict) and _weights(value)
    ]
    if not holding:
        return next((key for key in WRAPPINGS if isinstance(content.get(key), dict)), None)
    if len(holding) > 1:
        raise BadArtefact(
            f"{path} holds several networks, under {', '.join(printable(str(key)) for key in holding[:6])}; save the one that is "
            "wanted in a file of its own"
        )
    return next((key for key in holding if isinstance(key, str)), None)


def _holds(content: Any, deep: int = _DEEP) -> bool:
    """Whether there are weights in a dictionary, or in one within it."""
    if not isinstance(content, dict):
        return False
    return any("." in name for name in _weights(content)) or (
        deep > 0 and any(_holds(value, deep - 1) for value in content.values())
    )


def _shared(names: Iterable[str], whole: bool) -> str:
    """What all names begin with because the network was part of another module: `module.`, or anything if it is `whole`."""
    given = [name.split(".") for name in names]
    prefix = ""
    while all(len(parts) > 1 for parts in given) and len(first := {parts[0] for parts in given}) == 1:
        wraps = first & {*MODULES} or (
            first == {"model"} and not any(".".join(parts).startswith(OWN) for parts in given)
        )
        if not whole and not wraps:
            break
        prefix += f"{first.pop()}."
        given = [parts[1:] for parts in given]
    return prefix


def write_state_dict(path: Path, stored: StoredFile, tensor: Callable[[str], Tensor], *, force: bool) -> None:
    """Writes a file of torch with the tensors of `stored`, wrapped and named as it says. Raises as `replacing` does."""
    content: Any = {
        stored.prefix + one.name: tensor(one.name).to(DTYPES[one.dtype]).contiguous() for one in stored.tensors
    }
    for key in reversed(stored.wrapping):
        content = {key: content}
    with replacing(path, force=force) as temporary:
        write_torch(content, temporary)
