"""`wb predict`: the classes of pictures or texts, with probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadData, BadOption
from wb.core.system.files import scratch
from wb.data.formats import extensions, usual
from wb.data.preparation import Preparation
from wb.data.readers.pictures import check
from wb.data.spec import WHITE, Spec, colour
from wb.export.exits.ways import export_any
from wb.export.foreign.trial import LIMIT_S, try_out
from wb.hardware.device import Device
from wb.jobs.calls.shown import Shown, Table
from wb.jobs.inputs import about, refuse_decoder
from wb.jobs.kinds import GRAPH, MODELS, need
from wb.jobs.reading import UNWRITTEN
from wb.jobs.verbs.classifier import Classifier, Picture
from wb.jobs.verbs.preparation import of_graph, refuse_for_ours
from wb.jobs.verbs.reader import Reader, reads_texts, texts_of
from wb.models.files.history import data_of, tokenizer_of

TOP = 3  # classes of a picture in a table
AT_ONCE = 64  # pictures in memory


@dataclass(frozen=True, repr=False)
class Predictions(Shown):
    """The class probabilities (n, classes) of `pictures` by a network with these `classes`."""

    file: Path
    classes: tuple[str, ...]
    pictures: tuple[str, ...]
    probabilities: NDArray[np.float64]
    top: int = TOP
    noun: str = "picture"
    cut: int = 0
    """How many texts are longer than the network reads."""
    empty: int = 0
    """How many texts have no token."""

    @property
    def names(self) -> list[str]:
        """The most probable class of each picture."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]

    def table(self) -> Table:
        """One row a picture: its `top` most probable classes."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, : self.top]
        rows = [
            (picture, *(f"{self.classes[i]} {100 * chances[i]:.1f} %" for i in best))
            for picture, chances, best in zip(self.pictures, self.probabilities, order, strict=True)
        ]
        places = ("class", *(f"or {i}" for i in range(2, order.shape[1] + 1)))
        return Table(str(self.file), (self.noun, *places), rows, self._notes)

    @property
    def _notes(self) -> list[str]:
        of = f"of {len(self.pictures):,} texts"
        found = [f"{self.cut:,} {of} are longer than the network reads: the rest is cut"] if self.cut else []
        if self.empty:
            found.append(f"{self.empty:,} {of} have no token: their class says nothing of them")
        return found

    def content(self) -> dict[str, Any]:
        """The same as JSON; probabilities are in the order of the classes."""
        rows = zip(self.pictures, self.names, self.probabilities.tolist(), strict=True)
        pictures = [
            {self.noun: picture, "class": name, "probability": max(chances), "probabilities": chances}
            for picture, name, chances in rows
        ]
        found = {"model": str(self.file), "classes": list(self.classes), f"{self.noun}s": pictures}
        return found if self.noun == "picture" else {**found, "cut": self.cut, "empty": self.empty}


@dataclass(frozen=True)
class Predicting:
    """How pictures are classified.

    `top` classes are shown of each. Transparent pictures are laid on `background`, by default that of the data that the network
    was trained with. `images` prepares pictures for a network that is not the workbench's, which is tried out for at most
    `run_limit` seconds. With `truncate` the beginning is read of texts that are longer than the network reads.
    """

    top: int = TOP
    background: str | None = None
    images: Preparation | None = None
    run_limit: float | None = None
    truncate: bool = False

    def __call__(self, file: Path, pictures: Sequence[Picture], progress: Progress) -> Predictions:
        """The predictions of the model or graph in `file`; paths of folders stand for all pictures in them.

        Raises:
            BadArtefact: the file is no model and no graph, does not run, or does not give class scores.
            BadData: pictures that cannot be read, or none; or texts that are too long.
            BadOption: an option out of range, or that would do nothing.
        """
        if self.top < 1:
            raise BadOption(f"--top {self.top} shows nothing; give 1 or more")
        kind = need(file, *MODELS, "onnx", expected=GRAPH)
        architecture = about(file)[0]
        refuse_decoder(architecture, str(file))
        reads = reads_texts(file) if kind == "onnx" else tokenizer_of(about(file)[1]) is not None
        if not reads and architecture is not None and architecture.input.usual_tokens is not None:
            raise BadArtefact(f"{file}: {UNWRITTEN}")
        if self.truncate and not reads:
            raise BadOption(f"{file} looks at pictures, and --truncate is of texts; leave it out")
        given: list[Picture] = []
        if not reads:
            given = list(expanded(pictures))
            check([Path(picture) for picture in given if isinstance(picture, str | Path)])
        with scratch() as folder:
            graph = file
            if kind == "onnx":
                progress("trying it out", 0, 0)
                try_out(file, Device(), limit_s=LIMIT_S if self.run_limit is None else self.run_limit)
            else:
                refuse_for_ours(str(file), self.images)
                progress("exporting", 0, 0)
                graph = folder / "model.onnx"
                export_any(file, graph)
            if reads:
                return self._read(file, graph, pictures)
            classifier = Classifier(graph, of_graph(graph, self.images), self._ground(file))
            found = _probabilities(classifier, given, progress)
        names = classifier.labels or tuple(str(i) for i in range(found.shape[1]))
        return Predictions(file, names, tuple(map(name_of, given, range(1, len(given) + 1))), found, self.top)

    def _read(self, file: Path, graph: Path, given: Sequence[Picture]) -> Predictions:
        """The predictions of a network for texts."""
        if self.background is not None or self.images is not None:
            raise BadOption(f"{file} reads texts, and how pictures are prepared is of no use to it; leave that out")
        reader, texts = Reader(graph, truncate=self.truncate), texts_of(given)
        counts = (reader.cut(texts), reader.empty(texts))
        found = reader.probabilities(texts)
        names = reader.labels or tuple(str(i) for i in range(found.shape[1]))
        return Predictions(file, names, tuple(texts), found, self.top, "text", *counts)

    def _ground(self, file: Path) -> str:
        """The background of transparent pictures."""
        if self.background is not None:
            return colour(self.background)
        known = data_of(about(file)[1])
        return WHITE if known is None else Spec.parse(known.spec).background


def _probabilities(classifier: Classifier, pictures: Sequence[Picture], progress: Progress) -> NDArray[np.float64]:
    found = []
    for start in range(0, len(pictures), AT_ONCE):
        progress("classifying pictures", start, len(pictures))
        pixels = [classifier.pixels([picture]) for picture in pictures[start : start + AT_ONCE]]
        if len({one.shape for one in pixels}) > 1:  # a graph that takes any size
            found += [classifier.probabilities(one) for one in pixels]
        else:
            found.append(classifier.probabilities(np.concatenate(pixels)))
    return np.concatenate(found)


def expanded(pictures: Sequence[Picture]) -> Iterator[Picture]:
    """`pictures`, with all that lie in a folder or below it in its place, in order. Raises `BadData` for an empty folder."""
    for picture in pictures:
        if not isinstance(picture, str | Path) or not Path(picture).is_dir():
            yield picture
            continue
        inside = [
            path
            for path in sorted(Path(picture).rglob("*"))
            if path.suffix.lower() in extensions() and not path.name.startswith(".") and not path.is_dir()
        ]
        if not inside:
            raise BadData(f"the folder {picture} has no pictures; expected files that end in {usual()}")
        yield from inside


def name_of(picture: Picture, number: int) -> str:
    """The path of a picture, or its number."""
    return str(picture) if isinstance(picture, str | Path) else f"picture {number}"
