"""The data for a command: those that were named, else those of the model's history; with classes in the model's order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wb.cli import _output
from wb.cli._kinds import GRAPH, need, need_model
from wb.cli._read import read_model

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wb.core.architecture import Architecture
    from wb.data import Dataset
    from wb.data.preparation import Preparation
    from wb.models.history import Known
    from wb.models.model import Model, Step

STOCK = "digits"
_NATIVE = {"digits": 8, "cifar10": 32}  # pixels of a side, where every set of that form has them


@dataclass(frozen=True)
class Choice:
    """What `wb.data.load` is to be given; no `spec` for no data."""

    spec: str | None
    image_size: int | None = None
    limit: int | None = None


def choose(
    files: Sequence[Path],
    spec: str | None,
    image_size: int | None = None,
    limit: int | None = None,
    *,
    needed: bool = True,
    guess: bool = True,
    graphs: bool = False,
) -> Choice:
    """The data for the models in `files`, or `graphs` where those are taken; says on stderr what was not asked for.

    Without files it is the stock model.

    Where no `spec` is given they are those of the models' history, with its limit. Those, and every folder of images, get
    the size that the models take. Where a history names none, digits are a `guess` if they fit. Unless they are `needed`,
    there may be no data.

    Raises:
        BadArtefact: a file is no model and no ONNX graph, or damaged.
        BadOption: no data are named and none are known, or those that are known are no longer there.
    """
    from wb.data.spec import FOLDERS, Spec, resolved

    for file in files:
        if graphs:
            need(file, "model", "torch", "onnx", expected=GRAPH)
        else:
            need_model(file)
    if not files:
        return Choice(resolved(spec or STOCK), image_size, limit)
    if spec is not None:
        taken = resolved(spec)
        side = _side(files[0], about(files[0])[0]) if Spec.parse(taken).form == FOLDERS and image_size is None else None
        return Choice(taken, side if image_size is None else image_size, limit)
    architectures, histories = zip(*(about(file) for file in files), strict=True)
    known = _common(histories)
    if known is not None and known.there:
        form = Spec.parse(known.spec).form
        side = _side(files[0], architectures[0])
        own = None if side == _NATIVE.get(form) else side
        size = next((one for one in (image_size, known.image_size, own) if one is not None), None)
        limit = known.limit if limit is None else limit
        told = "" if size is None else f" at {size}x{size}"
        told += "" if limit is None else f", {limit} training images"
        say(f"data: {known.spec}{told}, as the history of {files[0]} says; --data names others")
        return Choice(resolved(known.spec), size, limit)
    if guess and not any(map(_data_of, histories)) and all(map(_takes_digits, architectures)):
        say(f"data: digits, which {files[0]} takes, for its history names none; --data names others")
        return Choice(STOCK, image_size, limit)
    _untold(files, histories, needed)
    return Choice(None, image_size, limit)


def read(
    file: Path | None, choice: Choice, seed: int, progress: Progress, task: TaskID, *, by_index: bool
) -> tuple[Model, Dataset]:
    """The model in `file`, or the stock model, and the data in the order of its classes; says what is to be known of that.

    Raises:
        BadData: the data are damaged or do not fit the model, or have other classes.
        WbError: as `wb.cli._read.read_model` and `wb.data.load` say.
    """
    from wb.data import load as load_data
    from wb.training.train import fitted

    data = load_data(choice.spec or STOCK, image_size=choice.image_size, limit=choice.limit)
    model = read_model(file, data, seed, progress, task)
    data, notes = fitted(data, model.architecture, str(file or "the stock model"), by_index=by_index)
    for note in (*notes, *changed(model.history, data)):
        say(note)
    return model, data


def read_data(
    file: Path, choice: Choice, images: Preparation | None = None, *, by_index: bool
) -> tuple[Dataset, list[str]]:
    """The data for the model or graph in `file`, in the order of its classes, and what is to be known of that.

    To a graph that is not ours they are shown as `images` say.

    Raises:
        BadArtefact: no model and no ONNX file, or damaged metadata.
        BadData: the data are damaged or do not fit the model, or have other classes.
        BadOption: `images` are of another number of channels.
    """
    from wb.data import load as load_data
    from wb.data.preparation import described
    from wb.export.graph import read_classes
    from wb.tasks.names import matched
    from wb.training.train import fitted

    data = load_data(choice.spec or STOCK, image_size=choice.image_size, limit=choice.limit)
    architecture, history = about(file)
    if architecture is not None:
        data, notes = fitted(data, architecture, str(file), by_index=by_index)
        return data, [*notes, *changed(history, data)]
    labels, classes = read_classes(file)
    data, notes = matched(data, labels, classes, str(file), by_index=by_index)
    return data.prepared(images), [described(images), *notes]


def about(path: Path) -> tuple[Architecture | None, tuple[Step, ...]]:
    """The architecture and the history in a model file or an ONNX graph, whose weights are not read where that can be.

    A graph keeps no places: where the model file that it was made from lies beside it, the history is from there. One whose
    architecture is damaged is taken like any other graph.

    Raises:
        BadArtefact: neither, or damaged.
    """
    from wb.core.errors import BadArtefact
    from wb.export.foreign.opening import read_metadata
    from wb.export.graph import read_architecture
    from wb.models.model import read_history

    if path.suffix != ".onnx":
        return _header(path)
    metadata = read_metadata(path)  # what is wrong with the file itself is an error
    try:
        architecture = read_architecture(path)
    except BadArtefact:
        architecture = None
    beside = path.with_suffix(".safetensors")
    if architecture is not None and beside.is_file():
        own, history = _header(beside)
        if own == architecture:
            return architecture, history
    return architecture, read_history(metadata.get("wb.history", "[]"), path)


def changed(history: Iterable[Step], data: Dataset) -> list[str]:
    """A word where `data` are those of the history by name, but not by content."""
    from wb.data.spec import resolved

    known = _data_of(history)
    if known is None or known.fingerprint in (None, data.fingerprint):
        return []
    if (resolved(known.spec), known.limit) != (data.spec, data.limit):
        return []
    return [
        f"{data.spec} has changed since the model was trained with it (fingerprint {data.fingerprint}, then {known.fingerprint})"
    ]


def say(text: str) -> None:
    """A line on stderr."""
    _output.messages.print(text, markup=False, highlight=False, soft_wrap=True)


def _header(path: Path) -> tuple[Architecture, tuple[Step, ...]]:
    """Of a .safetensors its metadata alone."""
    from wb.models.header import read_header
    from wb.models.model import load

    if path.suffix == ".safetensors":
        return read_header(path)
    model = load(path)
    return model.architecture, model.history


def _data_of(history: Iterable[Step]) -> Known | None:
    from wb.models.history import data_of

    return data_of(history)


def _common(histories: Iterable[Iterable[Step]]) -> Known | None:
    """The data that all of them name; of how much of them, what all say alike."""
    from wb.models.history import Known

    every = [_data_of(history) for history in histories]
    known = [data for data in every if data is not None]
    if len(known) < len(every) or len({data.spec for data in known}) != 1:
        return None
    sizes, limits = ({data.image_size for data in known}, {data.limit for data in known})
    return Known(known[0].spec, None, *(found.pop() if len(found) == 1 else None for found in (sizes, limits)))


def _side(path: Path, architecture: Architecture | None) -> int | None:
    """Of the square images that a network takes; None of others, and where it is not known."""
    from wb.export.graph import read_image

    if architecture is not None:
        size: tuple[int | None, int | None] = (architecture.input.height, architecture.input.width)
    else:
        size = read_image(path)
    return size[0] if size[0] == size[1] else None


def _takes_digits(architecture: Architecture | None) -> bool:
    if architecture is None:
        return False
    a = architecture.input
    return (a.channels, a.height, a.width, architecture.classes) == (1, 8, 8, 10)


def _untold(files: Sequence[Path], histories: Iterable[Iterable[Step]], needed: bool) -> None:
    """Says which data are not there or differ. Raises `BadOption` where some are `needed`."""
    from wb.core.errors import BadOption

    named = {
        str(file): data.spec for file, history in zip(files, histories, strict=True) if (data := _data_of(history))
    }
    trained = "; ".join(f"{file} was trained with {spec}" for file, spec in named.items())
    if not named:
        text = f"the history of {files[0]} does not say with what it was trained"
    elif len(set(named.values())) == 1 and len(named) == len(set(files)):
        text = f"{trained.partition('; ')[0]}, which is not there"
    else:
        text = trained
    if needed:
        raise BadOption(f"{text}; name data that fit it with --data")
    if named:
        say(f"no data: {text}; name some with --data")
