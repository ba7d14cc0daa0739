"""Inputs for calibration and for comparing outputs: from a data set, from files, or random.

Inputs are arrays (n, ...) by the name of the graph's input. A graph with a fixed batch b is run on b examples at a time.
"""

from __future__ import annotations

import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from wb.core.errors import BadArtefact, BadData, Unsupported, reason
from wb.data import Feed, Split
from wb.data.formats import listing, usual
from wb.data.preparation import Preparation
from wb.data.readers.pictures import decode
from wb.data.spec import WHITE
from wb.export.foreign.stored import inputs as graph_inputs
from wb.export.pasts import PASTS
from wb.hardware.device import Device, example_inputs, session

_log = logging.getLogger(__name__)

Inputs = Feed
SCORED = 4096  # tokens, each of which has as many scores as there are in the vocabulary


@dataclass(frozen=True)
class Entry:
    """An input as the graph declares it; a dynamic size is None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    @property
    def text(self) -> str:
        """The input as text: `pixel_values float32 [?, 3, 224, 224]`."""
        return f"{self.name} {self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


def entries(graph: onnx.ModelProto) -> list[Entry]:
    """The inputs of the graph.

    Raises:
        Unsupported: there are none, or one is not a dense tensor with a batch as its first axis.
    """
    found = []
    for value in graph_inputs(graph):
        kind = value.type.tensor_type
        shape = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim)
        if not value.type.HasField("tensor_type") or not shape:
            raise Unsupported(
                f"input {value.name!r} is no tensor with a batch as its first axis; give a graph that has only such"
            )
        found.append(Entry(value.name, np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape))
    if not found:
        raise Unsupported("the graph takes no inputs, so there is nothing to run it on")
    return found


def batch_of(graph: onnx.ModelProto) -> int:
    """The number of examples in one run of the graph: its fixed batch, or one if the batch is dynamic."""
    return max((entry.shape[0] or 1 for entry in entries(graph)), default=1)


def number_of(inputs: Inputs) -> int:
    """The number of examples."""
    return min(len(values) for values in inputs.values())


def first(inputs: Inputs, count: int) -> Inputs:
    """The first `count` examples, or all if there are fewer."""
    return {name: values[:count] for name, values in inputs.items()}


def of_images(graph: onnx.ModelProto, split: Split, count: int, seed: int) -> Inputs:
    """At most `count` images, or texts, of `split`, drawn at random without repetition; labels are not used.

    Of passages, each of whose tokens has scores, there are fewer (`SCORED`). A graph that continues texts is to begin them.

    Raises:
        BadData: they do not fit the graph's inputs.
        Unsupported: the graph takes more than they are.
    """
    count = count if split.task == "classes" else max(1, min(count, SCORED // split.labels.shape[1]))
    feed = split.feed(np.random.default_rng(seed).permutation(len(split))[:count])
    every = [entry for entry in entries(graph) if not entry.name.startswith(PASTS)]
    wanted = [_only(graph)] if len(feed) == 1 else every
    if len(feed) == 1:
        feed = {wanted[0].name: next(iter(feed.values()))}
    if feed.keys() != {entry.name for entry in wanted}:
        raise Unsupported(
            f"the graph takes {'; '.join(entry.text for entry in wanted)}, and the data are {', '.join(feed)}; give a .npz file "
            "with an array for each"
        )
    return {entry.name: _fitted(feed[entry.name], entry, f"the {split.noun}", batch_of(graph)) for entry in wanted}


def made_up(graph: onnx.ModelProto, count: int, seed: int) -> Inputs:
    """`count` random inputs of the graph's shapes, made by `wb.hardware.device.example_inputs`.

    Raises:
        BadArtefact, Unsupported: as `example_inputs` and `session` do.
    Limits: activations have other ranges than on real inputs, so results say little about accuracy.
    """
    loaded = session(graph.SerializeToString(), Device())
    if all(entry.shape[0] is None for entry in entries(graph)):
        return example_inputs(loaded, count, seed)
    batch = batch_of(graph)
    parts = [example_inputs(loaded, batch, seed + i) for i in range(-(-count // batch))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_inputs(
    path: Path, graph: onnx.ModelProto, images: Preparation | None = None, background: str = WHITE
) -> Inputs:
    """Reads inputs for `graph` from a folder of images, a `.npy` array, or a `.npz` file with an array for each input.

    Images are found in the folder and in folders inside it. They become float32 in [0, 1], and `images` prepares them, if
    given. Grey images are repeated for a graph with three channels; transparent parts are put on `background`. Arrays are
    used unchanged, with the examples along the first axis. Nothing is unpickled.

    Raises:
        BadArtefact: the file does not exist, is damaged, or is of another kind.
        BadData: arrays or images do not fit the graph, are empty, or are not finite.
        Unsupported: images are given for a graph with several inputs.
    """
    if path.is_dir():
        return _read_folder(path, graph, images, background)
    if not path.is_file():
        raise BadArtefact(f"there is no {path}; expected a folder of images, or a file .npy or .npz")
    if path.suffix not in (".npy", ".npz"):
        raise BadArtefact(f"{path} is no array; expected a folder of images, or a file .npy or .npz")
    arrays, wanted, batch = _read_arrays(path), entries(graph), batch_of(graph)
    if len(wanted) == 1 and len(arrays) == 1:
        arrays = {wanted[0].name: next(iter(arrays.values()))}
    missing = [entry.text for entry in wanted if entry.name not in arrays]
    if missing:
        given = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()) or "nothing"
        raise BadData(
            f"{path} holds {given}, and the graph takes {'; '.join(missing)}; save an array for each with numpy.savez"
        )
    found = {entry.name: _fitted(arrays[entry.name], entry, f"{entry.name} of {path}", batch) for entry in wanted}
    _tell_left_out(len(arrays[wanted[0].name]), batch, path)
    if len({len(values) for values in found.values()}) > 1:
        sizes = ", ".join(f"{name} has {len(values)}" for name, values in found.items())
        raise BadData(f"the arrays of {path} have different numbers of examples ({sizes}); give as many for each input")
    return found


def _read_folder(path: Path, graph: onnx.ModelProto, preparation: Preparation | None, background: str) -> Inputs:
    entry = _only(graph)
    if len(entry.shape) != 4 or not np.issubdtype(entry.dtype, np.floating):
        raise BadData(f"the graph takes {entry.text}, which are no images; give an array as .npy")
    _, channels, height, width = entry.shape
    homes = (
        home
        for home, _, _ in os.walk(path)
        if not any(part.startswith(".") for part in Path(home).relative_to(path).parts)
    )
    found = listing(map(Path, sorted(homes)))
    if not found.images:
        raise BadData(f"{path} has no images; expected files {usual()}, in it or in folders inside it")
    decoded = decode(found.images, path, image_size=height if height == width else None, background=background)
    for note in (found._replace(folders=[]).left_out(path), *decoded.notes):
        if note is not None:
            _log.warning(note)
    images = decoded.images
    if images.shape[1] == 1 and channels == 3:
        images = images.repeat(3, axis=1)
    pixels = images.astype(np.float32) / np.float32(255)
    if preparation is not None:
        pixels = preparation(pixels)
    _tell_left_out(len(pixels), batch_of(graph), path)
    return {entry.name: _fitted(pixels, entry, f"the images of {path}", batch_of(graph))}


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> array, for all arrays in the file."""
    try:
        with path.open("rb") as file:  # opened here, because numpy does not close a damaged file
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"one array": loaded}
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise BadArtefact(
            f"{path} cannot be read as numbers ({reason(error)}); save it with numpy.save or numpy.savez"
        ) from error


def _tell_left_out(given: int, batch: int, path: Path) -> None:
    """Logs how many examples are left out because they do not fill a whole batch of the graph."""
    if given > batch and given % batch:
        _log.warning(
            f"{given % batch} of {given} examples of {path} are left out: the graph takes {batch} at a time (a fixed batch)"
        )


def _only(graph: onnx.ModelProto) -> Entry:
    every = entries(graph)
    if len(every) > 1:
        names = "; ".join(entry.text for entry in every)
        raise Unsupported(f"the graph takes more than images: {names}; give a .npz file with an array for each")
    return every[0]


def _fitted(values: NDArray[Any], entry: Entry, what: str, batch: int) -> NDArray[Any]:
    """`values` in the type of the graph's input, cut to whole batches.

    Raises:
        BadData: the values have another shape or kind, are too few, or are not finite.
    """
    given = f"{what}: {values.dtype} {list(values.shape)}, but the graph takes {entry.text}"
    sizes = zip(entry.shape[1:], values.shape[1:], strict=False)
    if values.ndim != len(entry.shape) or any(n is not None and n != m for n, m in sizes):
        raise BadData(f"{given}; give examples of that shape, along the first axis")
    floating = np.issubdtype(entry.dtype, np.floating)
    if values.dtype.kind not in ("biuf" if floating else "b" if entry.dtype.kind == "b" else "biu"):
        raise BadData(f"{given}; give numbers of that kind")
    whole = len(values) - len(values) % batch
    if not whole:
        raise BadData(f"{given}; give at least {batch} example{'s' if batch > 1 else ''}")
    with np.errstate(over="ignore"):  # infinities are caught on the next line
        cast = values[:whole].astype(entry.dtype, copy=False)
    if floating and not np.isfinite(cast).all():
        raise BadData(f"{what}: some values are not finite; leave those examples out")
    return cast
