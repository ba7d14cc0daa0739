"""An image classifier: a graph that takes pictures in any usual form and gives the names of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wb.core.errors import BadData
from wb.core.specs import PIXELS
from wb.data.preparation import Preparation
from wb.data.readers.flat import flattened
from wb.data.readers.pictures import decode
from wb.data.resize import fit, planes
from wb.data.spec import WHITE, levels
from wb.export.foreign.opening import file_size, open_graph
from wb.export.foreign.stored import inputs
from wb.export.graph import read_architecture, read_classes, read_preparation
from wb.export.run import Runner
from wb.hardware.device import Device
from wb.jobs.calls.shown import Shown, Table
from wb.jobs.kinds import need
from wb.tasks.classes import CLASSES

Picture = str | Path | Image.Image | NDArray[Any]


class Classifier(Shown):
    """The ONNX graph at `path` as a classifier; call it with pictures to get the names of their classes.

    A picture is a path, a PIL image, or an array: (height, width), (channels, height, width), or (height, width, channels)
    of uint8; an array of four dimensions has several pictures. Values of uint8 mean 0 to 255; other arrays have to be in 0 to 1
    and are used unchanged. Pictures of another size are scaled and cropped to the centre, but arrays that are not uint8 must
    have the graph's size.

    Limits: an array of shape (3, n, 3) is taken as three channels first.
    """

    def __init__(self, path: Path, preparation: Preparation | None = None, background: str = WHITE) -> None:
        """Reads the classes and the image preparation from the graph; transparent pictures are laid on `background`.

        Raises:
            BadArtefact: it is no ONNX graph, or its metadata are damaged.
        """
        need(path, "onnx", expected="an ONNX graph")
        self.path, self._background = path, background
        self.labels, self._classes = read_classes(path)
        self._preparation = preparation or read_preparation(path)
        self._ours = read_architecture(path) is not None

    def __call__(self, pictures: Picture | Sequence[Picture]) -> list[str]:
        """The name of the class of each picture; its index as text if the graph has no names.

        Raises:
            BadArtefact: the graph does not run, or does not give class scores.
            BadData: pictures that cannot be read, or that do not fit the graph.
        """
        best = self.scores(pictures).argmax(axis=1)
        return [self.labels[i] if self.labels else str(i) for i in best]

    def scores(self, pictures: Picture | Sequence[Picture]) -> NDArray[np.float32]:
        """The class scores (n, classes) of pictures. Raises as a call does."""
        return self._scores(self.pixels(pictures))

    def probabilities(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        """The softmax of the class scores (n, classes) of what `pixels` gives: how sure the network is, rightly or not.

        Raises as a call does.
        """
        return np.asarray(CLASSES.votes(self._scores(pixels)))

    def _scores(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._ours and self._preparation is not None:
            pixels = self._preparation(pixels)
        found = self._runner({PIXELS: pixels})
        CLASSES.check_outputs(found, np.zeros(len(found), np.int64), str(self.path))
        return found

    @cached_property
    def _runner(self) -> Runner:
        return Runner(self.path, Device())

    def pixels(self, pictures: Picture | Sequence[Picture]) -> NDArray[np.float32]:
        """Pictures in [0, 1] at the graph's size, before its preparation: (n, channels, height, width)."""
        many = apart(pictures)
        if not many:
            raise BadData("no pictures; give one or more")
        channels, height, width = self._shape
        found = [self._one(picture, channels, height, width) for picture in many]
        if len({one.shape for one in found}) > 1:
            raise BadData(f"pictures of different sizes: {sorted({one.shape for one in found})}; give them one by one")
        return np.stack(found)

    def _one(
        self, picture: Picture, channels: int | None, height: int | None, width: int | None
    ) -> NDArray[np.float32]:
        return prepared(picture, (channels, height, width), self._background)

    @cached_property
    def _shape(self) -> tuple[int | None, int | None, int | None]:
        """Channels, height and width; None for those that are dynamic."""
        image = next(iter(inputs(open_graph(self.path))), None)
        sizes = [] if image is None else [dim.dim_value or None for dim in image.type.tensor_type.shape.dim]
        if len(sizes) != 4:
            raise BadData(f"{self.path} does not take pictures: its input has {len(sizes)} dimensions; 4 are expected")
        return sizes[1], sizes[2], sizes[3]

    def table(self) -> Table:
        """The classes, the size of pictures, and the size of the file."""
        shape = "x".join("?" if size is None else str(size) for size in self._shape)
        names = ", ".join(self.labels) or "without names"
        rows = [("classes", names), ("pictures", shape), ("size", file_size(self.path).text())]
        return Table(str(self.path), ("ONNX graph", ""), rows)


def prepared(
    picture: Picture, shape: tuple[int | None, int | None, int | None], background: str = WHITE
) -> NDArray[np.float32]:
    """A picture (channels, height, width) in [0, 1], of that shape; None leaves a dimension as it is.

    Raises:
        BadData: it cannot be read, or is no picture.
    """
    if isinstance(picture, str | Path):
        path = Path(picture)
        return prepared(decode([path], path.parent, background=background).images[0], shape, background)
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        return prepared(planes(flattened(upright, levels(background))[0]), shape, background)
    array = _checked(picture)
    if array.dtype == np.uint8:
        return _resized(array, *shape).astype(np.float32) / np.float32(255)
    return array.astype(np.float32)


def apart(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture, several, or an array of several, as a list of pictures."""
    if getattr(pictures, "ndim", 0) == 4:  # arrays, also of other libraries
        return list(np.asarray(pictures))
    return list(pictures) if isinstance(pictures, Sequence) and not isinstance(pictures, str) else [pictures]


def _checked(picture: object) -> NDArray[Any]:
    """A picture as an array (channels, height, width): uint8, or in 0 to 1. Raises `BadData` for anything else."""
    array = np.asarray(picture)
    if array.dtype.kind not in "buif" or array.ndim == 0:
        raise BadData(f"{type(picture).__name__} is no picture; give a path, a PIL image or an array")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape:
        raise BadData(f"a picture of shape {list(array.shape)}; give (height, width) or (channels, height, width)")
    if array.dtype == np.uint8:
        if array.shape[0] not in (1, 3) and array.shape[2] in (1, 3):
            array = array.transpose(2, 0, 1)
        if array.shape[0] not in (1, 3):
            raise BadData(
                f"a picture of shape {list(array.shape)}; one or three channels are expected, and several pictures have four "
                "dimensions"
            )
    elif not (array.min() >= 0 and array.max() <= 1):
        raise BadData(
            f"a picture of {array.dtype} with values from {array.min():g} to {array.max():g}; give uint8, or values in 0 to 1"
        )
    return array


def _resized(
    array: NDArray[np.uint8], channels: int | None, height: int | None, width: int | None
) -> NDArray[np.uint8]:
    """Pixels (channels, height, width) with the wanted channels and size; None leaves a dimension as it is."""
    grey = array.shape[0] == 1
    picture = Image.fromarray(array[0] if grey else np.ascontiguousarray(array.transpose(1, 2, 0)))
    if channels in (1, 3):
        picture = picture.convert("L" if channels == 1 else "RGB")
    return planes(fit(picture, height or picture.height, width or picture.width))
