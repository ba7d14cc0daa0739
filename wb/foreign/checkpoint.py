"""What lies in a folder or file of another library: tensors by name, their shapes, and the JSON beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from wb.core.errors import BadArtefact, printable, reason
from wb.core.system.files import read_text
from wb.foreign.form import Shape
from wb.foreign.origin import StoredFile
from wb.foreign.stored import open_file

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE = ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILE = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
BESIDE = (
    SETTINGS,
    "special_tokens_map.json",
    "generation_config.json",
)  # handed back; of the first the padding is looked at
_PIECES = re.compile(r"tok\d+\.json")  # a vocabulary as llama2.c exports it
ENDINGS = (".safetensors", ".bin", ".pt", ".pth")
EXPECTED = "a folder with config.json and weights, or a state dict (.safetensors, .pt, .pth or .bin)"
_MOST_TEXT = 24 << 20  # characters of JSON beside the weights; those of a tokenizer of 150,000 tokens are ten million
_MOST_FILES = 1000
_LONGEST = 255  # bytes of a file's name


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, without reading them: `read` gives one, on the CPU, in its own type and memory."""

    path: Path
    files: tuple[StoredFile, ...]
    texts: Mapping[str, str]
    read: Callable[[str], Tensor] = field(repr=False)
    notes: tuple[str, ...] = ()
    tokenizer: str | None = None  # as JSON

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor."""
        return {tensor.name: tensor.shape for file in self.files for tensor in file.tensors}

    @property
    def dtypes(self) -> dict[str, str]:
        """The type of every tensor, in the words of safetensors."""
        return {tensor.name: tensor.dtype for file in self.files for tensor in file.tensors}

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json; empty if there is none."""
        return parsed(self.texts[CONFIG], self.path / CONFIG) if CONFIG in self.texts else {}


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder, or in a file of tensors.

    Raises:
        BadArtefact: nothing of the kind, or damaged: files that are truncated, that the index names and that are not there,
            or that hold other tensors than it says; a pickle that is more than tensors, which is never run.
    """
    if not path.is_dir():
        return _together(path, [path], {})
    names = [name for name in (CONFIG, *PREPROCESSORS, *BESIDE) if (path / name).is_file()]
    pieces = (
        [] if (path / TOKENIZER_FILE).is_file() else sorted(one.name for one in path.iterdir() if is_pieces(one.name))
    )
    texts = {name: _text(path / name) for name in (*names, *pieces[:1])}
    found = _weights(path, texts)
    if (path / TOKENIZER_FILE).is_file():
        return replace(found, tokenizer=_text(path / TOKENIZER_FILE))
    if not pieces:
        return found
    from wb.data.texts.pieces import tokenizer_of_pieces  # imports a library that only texts need

    return replace(found, tokenizer=tokenizer_of_pieces(texts[pieces[0]], path / pieces[0]))


def is_pieces(name: str) -> bool:
    """Whether a file of that name holds a vocabulary as llama2.c exports it."""
    return _PIECES.fullmatch(name) is not None


def _weights(path: Path, texts: dict[str, str]) -> Checkpoint:
    """The checkpoint in a folder with those texts; an index of shards joins them."""
    index = next((name for name in INDICES if (path / name).is_file()), None)
    whole = next((name for name in WHOLE if (path / name).is_file()), None)
    if whole is None and index is not None:
        texts[index] = _text(path / index)
        return _sharded(path, index, texts)
    if whole is not None:
        return _together(path, [path / whole], texts)
    found = sorted(file for file in path.iterdir() if file.suffix in ENDINGS)
    if len(found) != 1:
        names = ", ".join(file.name for file in found[:5]) or "none"
        raise BadArtefact(
            f"{path} has no model.safetensors, and of other files with weights {names}; expected {EXPECTED}"
        )
    return _together(path, found, texts)


def parsed(text: str, path: Path) -> dict[str, Any]:
    """The JSON object in the text of `path`. Raises `BadArtefact` if it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadArtefact(f"{path} is no JSON ({reason(error)}); copy it again") from error
    if not isinstance(content, dict):
        raise BadArtefact(f"{path} is JSON, but no object with keys; copy it again")
    return content


def _text(path: Path) -> str:
    text = read_text(path, "JSON")
    if len(text) > _MOST_TEXT:
        raise BadArtefact(f"{path} has {len(text):,} characters, and at most {_MOST_TEXT:,} are read; expected JSON")
    return path.read_bytes().decode()  # as it is, with its ends of lines


def _sharded(path: Path, index: str, texts: dict[str, str]) -> Checkpoint:
    """The checkpoint in the files that an index names."""
    where = parsed(texts[index], path / index).get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(name, str) for name in where.values()):
        raise BadArtefact(f"{path / index} has no weight_map that says which file has which tensor; copy it again")
    names = sorted(set(where.values()))
    if len(names) > _MOST_FILES:
        raise BadArtefact(
            f"{path / index} names {len(names):,} files, and at most {_MOST_FILES:,} are read; copy it again"
        )
    strange = [n for n in names if Path(n).name != n or Path(n).suffix not in ENDINGS or len(n.encode()) > _LONGEST]
    if strange:
        raise BadArtefact(f"{path / index} names {printable(strange[0])}, which is no file of weights beside it")
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise BadArtefact(
            f"{path / index} names {len(names)} files, of which {len(missing)} are not there: "
            f"{printable(', '.join(missing[:5]), 400)}; copy them too"
        )
    found = _together(path, [path / name for name in names], texts)
    held = {file.prefix + tensor.name: file.name for file in found.files for tensor in file.tensors}
    wrong = sorted(name for name in where.keys() | held.keys() if where.get(name) != held.get(name))
    if wrong:
        name = wrong[0]
        raise BadArtefact(
            f"{path / index} and the files disagree on {len(wrong)} tensors, the first is {printable(name)}: by the index in "
            f"{where.get(name, 'no file')}, found in {held.get(name, 'no file')}; copy the files again"
        )
    return found


def _together(path: Path, files: list[Path], texts: Mapping[str, str]) -> Checkpoint:
    """The checkpoint of the tensors in all files; those of transformers have the library's names."""
    whole = len(files) == 1 and "model_type" not in (parsed(texts[CONFIG], path / CONFIG) if CONFIG in texts else {})
    opened = [open_file(file, whole=whole) for file in files]
    where = {tensor.name: one.read for one in opened for tensor in one.stored.tensors}
    if not where:
        raise BadArtefact(f"{path} holds no tensors; expected {EXPECTED}")
    notes = [note for one in opened for note in one.notes]
    return Checkpoint(path, tuple(one.stored for one in opened), texts, lambda name: where[name](name), tuple(notes))
