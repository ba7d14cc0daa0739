"""Inputs to calibrate on and to compare with: from a data set, from files, or made up.

They are kept by the name of the graph's input, each (n, ...). A graph whose batch is fixed at b is run on b of them at a time.
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
from wb.export.foreign.stored import inputs as taken_by
from wb.hardware.device import Device, example_inputs, session

_log = logging.getLogger(__name__)

Inputs = Feed


@dataclass(frozen=True)
class Entry:
    """What the graph declares of one input: None for a size that is dynamic."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    @property
    def text(self) -> str:
        """`pixel_values float32 [?, 3, 224, 224]`."""
        return f"{self.name} {self.dtype} [{', '.join('?' if n is None else str(n) for n in self.shape)}]"


def entries(graph: onnx.ModelProto) -> list[Entry]:
    """What the graph takes.

    Raises:
        Unsupported: nothing, or something that is no dense tensor with a batch as its first axis.
    """
    found = []
    for value in taken_by(graph):
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
    """How many examples a run of the graph takes: one where its batch is dynamic."""
    return max((entry.shape[0] or 1 for entry in entries(graph)), default=1)


def number_of(inputs: Inputs) -> int:
    """How many examples there are."""
    return min(len(values) for values in inputs.values())


def first(inputs: Inputs, count: int) -> Inputs:
    """The first `count` examples, or all if there are fewer."""
    return {name: values[:count] for name, values in inputs.items()}


def of_images(graph: onnx.ModelProto, split: Split, count: int, seed: int) -> Inputs:
    """`count` images of `split`, drawn without their labels and without repetition; all of them if there are fewer.

    Raises:
        BadData: they do not fit the graph's input.
        Unsupported: the graph takes more than images.
    """
    entry = _only(graph)
    drawn = np.random.default_rng(seed).permutation(len(split))[:count]
    return {entry.name: _fitted(split.pixels(drawn), entry, "the images", batch_of(graph))}


def made_up(graph: onnx.ModelProto, count: int, seed: int) -> Inputs:
    """`count` random inputs of the graph's shapes, as `wb.hardware.device.example_inputs` makes them.

    Raises:
        BadArtefact, Unsupported: as that and `session` do.
    Limits: activations have other ranges than on real inputs, so that they say little of accuracy.
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
    """Inputs for `graph` from a folder of images, a `.npy` array, or a `.npz` file with an array for each input.

    Images lie in the folder or in folders inside it, and become float32 in [0, 1], then what `images` make of them; grey
    ones are repeated for a graph that takes three channels; what is transparent is laid on `background`. An array is taken
    as it is, and has the examples along its first axis. Nothing is unpickled.

    Raises:
        BadArtefact: there is no such file, or it is damaged or something else.
        BadData: arrays or images that do not fit the graph, that are empty, or that are not finite.
        Unsupported: images for a graph with several inputs.
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
    """The arrays of the file by name."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged one open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"one array": loaded}
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile) as error:
        raise BadArtefact(
            f"{path} cannot be read as numbers ({reason(error)}); save it with numpy.save or numpy.savez"
        ) from error


def _tell_left_out(given: int, batch: int, path: Path) -> None:
    """Says how many examples are left out where they are no whole batches of the graph's."""
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
    """`values` as the graph's input wants them, as many as whole batches take.

    Raises:
        BadData: of another shape or kind, too few, or not finite.
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
