"""A model in the files of another library: those that it came in, or those that the library reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.system.files import write_text
from wb.foreign.checkpoint import CONFIG, INDICES, PREPROCESSORS, TOKENIZER_FILE, is_pieces, parsed
from wb.foreign.origin import StoredFile, StoredTensor
from wb.foreign.rule import front_of
from wb.foreign.said.target import Target, check_made, target_of
from wb.foreign.said.target import To as To
from wb.foreign.stored import write_safetensors, write_state_dict
from wb.models.files.history import tokenizer_of
from wb.models.model import Model, compacted

WHOLE = "model.safetensors"


def export_checkpoint(model: Model, to: To, folder: Path, *, force: bool = False) -> list[Path]:
    """Writes a model for another library; one that came from it and kept its architecture, in the same bytes.

    Blocks that have lost all their sub-layers are left out, and the others counted anew.

    Files are of the types, names and number that they came in, while names and shapes are; otherwise the weights are one
    `model.safetensors`.

    Limits: torch's own files hold the same tensors, but not the same bytes; float64 was rounded by the import.

    Raises:
        BadOption: a file exists and `force` is false, or a model that was not imported is to go back to its source.
        Unsupported: the library's format cannot say the architecture; says why.
        StorageFailed: a file could not be written.
    """
    model = compacted(model)
    target = target_of(model, to)
    check_made(target, model)
    texts = _texts(model, to, target)
    tensors = _Theirs(target, model)
    files = _files(target)
    if [file.name for file in files] == [WHOLE]:
        texts = {name: text for name, text in texts.items() if name not in INDICES}
    _check_free([folder / name for name in (*texts, *(file.name for file in files))], force)
    written = []
    for file in files:
        written.append(folder / file.name)
        write = write_safetensors if file.name.endswith(".safetensors") else write_state_dict
        write(written[-1], file, tensors, force=force)
    for name, text in texts.items():
        written.append(folder / name)
        write_text(written[-1], text, force=force)
    return written


def theirs_of(model: Model) -> dict[str, Tensor]:
    """The tensors of a model as its source has them, in float32. Raises as `export_checkpoint` does."""
    model = compacted(model)
    target = target_of(model, "source")
    tensors = _Theirs(target, model)
    return {name: tensors(name) for name in target.shapes}


def _check_free(paths: Sequence[Path], force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise BadOption(f"{there[0]} exists already; choose another folder or say --force to replace it")


# ---------------------------------------------------------------------------------------------------------------- files


class _Theirs:
    """Their tensors by name, each made when it is asked for: of ours, or kept from the import."""

    def __init__(self, target: Target, model: Model) -> None:
        self.rules = {name: one for one in target.rules for name in one.theirs}
        self.weights, self.kept = model.weights, {} if target.origin is None else target.origin.kept
        self.again = target.again

    def __call__(self, name: str) -> Tensor:
        name = self.again.get(name, name)
        if name not in self.rules:
            return self.kept[name].tensor()
        one = self.rules[name]
        found = one.to_theirs(self.weights)[name]
        rows = self.kept.get(front_of(one)) if one.front else None
        if rows is not None and rows.shape == tuple(found[: one.front].shape):  # not where channels went
            found[: one.front] = rows.tensor()
        return found


def _files(target: Target) -> list[StoredFile]:
    """The files of weights, as they came if they had the same tensors, else one."""
    origin = target.origin
    if origin is not None:
        given = origin.shapes()
        wanted = {**target.shapes, **{name: target.shapes[of] for name, of in target.again.items()}}
        left = {name for name in given if name not in wanted and name not in origin.kept}
        if not left and all(given.get(name) == shape for name, shape in wanted.items()):
            return list(origin.files)
        named = {name: shape for name in given if (shape := wanted.get(name)) is not None}
        shapes = {**named, **wanted}
    else:
        shapes = dict(sorted(target.shapes.items()))
    dtypes = {} if origin is None else origin.dtypes()
    common = next(iter(dtypes.values()), "F32")
    tensors = tuple(StoredTensor(name=n, dtype=dtypes.get(n, common), shape=shape) for n, shape in shapes.items())
    if origin is not None and len(origin.files) == 1 and origin.files[0].header is None:  # a file of torch stays one
        return [origin.files[0].model_copy(update={"tensors": tensors})]
    if origin is not None and len(origin.files) == 1:
        return [StoredFile(name=origin.files[0].name, tensors=tensors, prefix=origin.files[0].prefix)]
    return [StoredFile(name=WHOLE, tensors=tensors)]


def _texts(model: Model, to: To, target: Target) -> dict[str, str]:
    """The texts beside the weights: as they came where they say the same."""
    a = model.architecture
    texts = {} if target.origin is None else dict(target.origin.texts)
    if target.config:
        before = parsed(texts[CONFIG], Path(CONFIG)) if CONFIG in texts else None
        if before != dict(target.config):
            texts[CONFIG] = json.dumps(target.config, indent=2, sort_keys=True) + "\n"
    tokenizer = tokenizer_of(model.history)
    if tokenizer is not None and (to != "source" or not any(map(is_pieces, texts))):
        texts[TOKENIZER_FILE] = tokenizer
    if (
        target.family.library == "hf"
        and target.family.takes == "image"
        and not any(name in texts for name in PREPROCESSORS)
    ):
        plain = not any(a.image.mean) and set(a.image.std) == {1.0}
        if target.origin is None or not plain:
            texts[PREPROCESSORS[0]] = json.dumps(_preprocessor(a), indent=2, sort_keys=True) + "\n"
    return texts


def _preprocessor(a: Architecture) -> dict[str, Any]:
    """The settings of transformers' image processor that give what the network takes."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": a.image.height, "width": a.image.width},
        "resample": 3,  # bicubic, as wb resizes
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(a.image.mean),
        "image_std": list(a.image.std),
    }
