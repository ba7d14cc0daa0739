"""Comparison of two models: each part for itself, and a note where a part cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadData, BadOption
from wb.core.specs import image_spec
from wb.data import load as load_data
from wb.data.preparation import Preparation, described
from wb.jobs.calls.shown import Shown, Table
from wb.jobs.diff import values
from wb.jobs.diff.config import NONE, DiffConfig
from wb.jobs.diff.layers import compare_layers
from wb.jobs.diff.lineage import common_readings, lineage
from wb.jobs.diff.outputs import compare_outputs, reordered
from wb.jobs.diff.record import Count, Difference, Field, LayerRow, Outputs, WeightRow
from wb.jobs.diff.side import MADE_UP, Examples, Shape, Side, of_tokens, opened, same_graph, taken
from wb.jobs.diff.structure import compare_architectures
from wb.jobs.diff.weights import compare_weights, equal_weights, whole_distance
from wb.jobs.diff.words import remarks, tables
from wb.jobs.frame.config import SAMPLES
from wb.jobs.inputs import Say, choose
from wb.jobs.reading import taken as as_read
from wb.jobs.verbs.preparation import refuse_for_ours
from wb.models.feeds import made_up
from wb.tasks.names import matched
from wb.tasks.suited import fitted

_DEFAULT = DiffConfig()
_UNKNOWN = 32  # pixels; the side of made-up images for graphs that take any


class Comparing(DiffConfig):
    """How two models are compared: as a configuration says; `preparation` is of images for graphs that are not the workbench's.

    `run_limit` are the seconds that trying such a graph out may take.
    """

    preparation: Preparation | None = None
    run_limit: float | None = None

    def __call__(self, a: Path, b: Path, progress: Progress, say: Say) -> Difference:
        """What the models or graphs in the files `a` and `b` differ in.

        Raises:
            BadOption: no such split, or an option that would do nothing.
            WbError: a file or the data are damaged, or data that were named do not fit.
        """
        if self.split not in ("validation", "train"):
            raise BadOption(
                f"no split {self.split!r} here; there are validation and train (test is for final numbers only)"
            )
        torch.set_num_threads(self.threads)
        progress("reading", 0, 0)
        one, other = (opened(path, self.preparation, self.run_limit) for path in (a, b))
        if one.architecture is not None and other.architecture is not None:
            refuse_for_ours(f"each of {a} and {b}", self.preparation)
        progress("comparing weights", 0, 0)
        rows, notes = _weights(one, other)
        layers, outputs, more = self._outputs(one, other, progress, say)
        counts = [side.counts() for side in (one, other)]
        return Difference(
            a=str(a),
            b=str(b),
            equal=_equal(one, other),
            fields=_fields(one, other),
            counts=tuple(
                Count(name=name, a=counts[0].get(name), b=counts[1].get(name))
                for name in dict.fromkeys([*counts[0], *counts[1]])
            ),
            weights=rows,
            together=whole_distance(rows, one.weights, other.weights),
            layers=layers,
            outputs=outputs,
            readings=common_readings(one.history, other.history),
            lineage=lineage(one.history, other.history, whole=one.model is not None and other.model is not None),
            notes=(*_unknown(one, other), *notes, *more),
        )

    def _outputs(
        self, a: Side, b: Side, progress: Progress, say: Say
    ) -> tuple[tuple[LayerRow, ...], Outputs | None, list[str]]:
        """The layers and the outputs on the same images, and notes on what is not compared."""
        apart = _incomparable(a, b)
        if apart is not None:
            if self.data not in (None, NONE):
                raise BadData(f"{apart}: no data fit both; leave --data out, and all but the outputs is compared")
            self._refuse_idle(f"where outputs are not compared, and they are not here: {apart}")
            if self.preparation is not None or self.images != _DEFAULT.images:
                options = f"{SAMPLES}, --mean, --std, --scale and --preprocessor"
                raise BadOption(
                    f"{options} are of no use where outputs are not compared, and they are not here: {apart}"
                )
            return (), None, [f"outputs are not compared: {apart}"]
        images = self._examples(a, b, progress, say)
        foreign = [side for side in (a, b) if side.architecture is None]
        told = [f"the graph {side.path.name} gets {described(side.preparation)}" for side in foreign]
        unseen: list[str] = []
        rows: tuple[LayerRow, ...] = ()
        if a.model is not None and b.model is not None:
            networks = a.model.network(), b.model.network()
            rows, *logits = compare_layers(*networks, torch.from_numpy(images.inputs), progress, self.seed)
            scores = [one.numpy() for one in logits]
        else:
            progress("comparing outputs", 0, 0)
            scores = [side.outputs(images) for side in (a, b)]
            if a.texts and a.model is None and b.model is None:
                unseen = ["values inside the graphs are not compared: those of texts differ in length"]
            elif a.model is None and b.model is None:
                given = [side.prepared(images.inputs[: values.IMAGES]) for side in (a, b)]
                try:
                    rows = values.compare_values(a.path, b.path, given, progress, self.seed)
                except BadArtefact as error:
                    unseen = [f"values inside the graphs are not compared: {error}"]
        scores[1], note = reordered(scores[1], a.labels, b.labels)
        found, why = compare_outputs(scores[0], scores[1], images.labels, images.name, images.noun)
        if not rows and not unseen:
            unseen = [_no_layers(a, b)]
        return rows, found, [*images.notes, *told, *unseen, *([note] if note else []), *([why] if why else [])]

    def _examples(self, a: Side, b: Side, progress: Progress, say: Say) -> Examples:
        """What both are run on."""
        spec = None if self.data == NONE else self.data
        if self.data != NONE:
            choice = choose(
                [a.path, b.path],
                spec,
                self.image_size,
                say=say,
                needed=False,
                guess=False,
                graphs=True,
                truncate=self.truncate,
            )
            if choice.spec is not None:
                progress("reading the data", 0, 0)
                data = load_data(choice.spec, image_size=choice.image_size, limit=choice.limit, own_words=False)
                if a.architecture is not None:
                    data = as_read(data, a.architecture, a.history)
                    data, notes = fitted(data, a.architecture, str(a.path), by_index=self.by_index)
                else:
                    data, notes = matched(data, a.labels, a.classes, str(a.path), by_index=self.by_index)
                if not a.texts:
                    _check_size(b, (data.channels, data.height, data.width), choice.spec)
                split = data.validation if self.split == "validation" else data.train
                return taken(split, self.images, f"{data.spec}, {self.split} split", list(notes))
        self._refuse_idle("without data; name some with --data")
        if a.texts and a.architecture is not None:
            return of_tokens(a.architecture, self.images, self.seed)
        channels, height, width = _common_shape(a, b)
        pixels = made_up((image_spec(channels, height, width),), self.images, self.seed)
        return Examples(next(iter(pixels.values())).numpy(), None, MADE_UP["images"])

    def _refuse_idle(self, where: str) -> None:
        """Raises `BadOption` if an option of data is given."""
        if self.by_index or self.image_size is not None or self.split != _DEFAULT.split or self.truncate:
            raise BadOption(f"--by-index, --image-size, --split and --truncate are of no use {where}")


@dataclass(frozen=True, repr=False)
class Compared(Shown):
    """What two models differ in, for a notebook."""

    difference: Difference

    def table(self) -> Table:
        """The sizes of both, and what the comparison comes to."""
        first = tables(self.difference)[0]
        return first._replace(lines=[*first.lines, *(one.text for one in remarks(self.difference))])

    def page(self, path: str | Path, *, everything: bool = False, force: bool = False) -> Path:
        """Writes the page of `wb diff -o` and returns its path; `everything` includes what is equal.

        Raises:
            BadOption: the file exists and `force` is false.
            StorageFailed: it could not be written.
        """
        from wb.jobs.diff.page import write  # imports the plotting libraries

        write(self.difference, Path(path), everything=everything, force=force)
        return Path(path)


def _weights(a: Side, b: Side) -> tuple[tuple[WeightRow, ...], list[str]]:
    """The weights of both by name; those of a model and a graph only where they have a name in common."""
    rows = compare_weights(a.weights, b.weights)
    if (a.model is None) == (b.model is None):
        return rows, []
    both = tuple(row for row in rows if row.a is not None and row.b is not None)
    left = len(rows) - len(both)
    note = f"{left} weights are not compared: a graph has other names for what it folded or transposed"
    return both, [note] if left else []


def _equal(a: Side, b: Side) -> bool:
    if a.model is not None and b.model is not None:
        return a.architecture == b.architecture and equal_weights(a.weights, b.weights)
    return a.model is None and b.model is None and same_graph(a.path, b.path)


def _fields(a: Side, b: Side) -> tuple[Field, ...]:
    if a.architecture is None or b.architecture is None:
        return ()
    return compare_architectures(a.architecture, b.architecture)


def _no_layers(a: Side, b: Side) -> str:
    if a.model is None and b.model is None:
        return "values inside the graphs are not compared: they have none under one name and of one shape"
    return "layers are not compared: a graph does not show the sub-layers of a model"


def _unknown(a: Side, b: Side) -> list[str]:
    """A note on graphs whose architecture is not known."""
    foreign = [side.path.name for side in (a, b) if side.architecture is None]
    return [f"architectures are not compared: that of {' and '.join(foreign)} is not known"] if foreign else []


def _incomparable(a: Side, b: Side) -> str | None:
    """That nothing fits both, in words; None if some images or texts do."""
    if a.texts or b.texts:
        return _apart(a, b)
    for side in (a, b):
        if len(side.shape) != 3 or side.inputs != 1:
            return f"{side.path} takes no images alone: its first input, of {side.inputs}, is {_size(side.shape)} for an example"
    if len(a.shape) == len(b.shape) and all(
        x is None or y is None or x == y for x, y in zip(a.shape, b.shape, strict=True)
    ):
        return None
    return f"{a.path} takes images of {_size(a.shape)}, and {b.path} of {_size(b.shape)} (channels x height x width)"


def _apart(a: Side, b: Side) -> str | None:
    """Why two networks, one of which takes texts, cannot be run on the same; None if they can."""
    if not (a.texts and b.texts):
        texts, images = (a, b) if a.texts else (b, a)
        return f"{texts.path} takes texts, and {images.path} does not"
    if a.continues != b.continues:
        on, names = (a, b) if a.continues else (b, a)
        return f"{on.path} continues texts, and {names.path} names their classes"
    if a.tokenizer != b.tokenizer:
        return "their tokenizers differ, so that one text has other tokens in each"
    known = [side.architecture.input.specs()[0].below for side in (a, b) if side.architecture is not None]
    return None if len(set(known)) == 1 else f"they know {' and '.join(map(str, known))} tokens"


def _common_shape(a: Side, b: Side) -> tuple[int, int, int]:
    """The shape of made-up images."""
    sizes = [x or y for x, y in zip(a.shape, b.shape, strict=True)]
    return sizes[0] or 3, sizes[1] or _UNKNOWN, sizes[2] or _UNKNOWN


def _check_size(side: Side, shape: tuple[int, int, int], spec: str) -> None:
    if any(wanted not in (None, given) for wanted, given in zip(side.shape, shape, strict=True)):
        raise BadData(
            f"the images of {spec} are {_size(shape)}, and {side.path} takes {_size(side.shape)} (channels x height x width); "
            "name data that fit both"
        )


def _size(shape: Shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "nothing"
