"""Inputs of commands: models and data given by file, by name, or left to defaults.

Data that are not named are taken from the model's history; labels are put into the order of the model's classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.specs import image_spec
from wb.core.system.files import read_text
from wb.data import Dataset
from wb.data import load as load_data
from wb.data.preparation import Preparation, described
from wb.data.spec import FOLDERS, HUB, Spec, resolved, with_background
from wb.export.foreign.opening import read_metadata
from wb.export.graph import TOKENIZER_KEY, read_classes, read_image
from wb.export.graph import read_architecture as architecture_of_graph
from wb.export.texts import read_vocabulary
from wb.foreign.origin import STEP as IMPORT
from wb.foreign.reading import load, read_header
from wb.jobs.frame.config import DataConfig, JobConfig
from wb.jobs.kinds import ARCHITECTURE, GRAPH, MODELS, need, need_model
from wb.models.files.header import TOKENIZER
from wb.models.files.history import Known, data_of, tokenizer_of
from wb.models.model import Model, Step, read_history
from wb.spaces.stock import Stock
from wb.tasks.names import matched
from wb.training.train import fitted

Say = Callable[[str], None]  # receives a note for the user about something that was not asked for
STOCK = "digits"
_NATIVE = {"digits": 8, "cifar10": 32}  # side in pixels of all images of that form


@dataclass(frozen=True)
class Choice:
    """Arguments for `wb.data.load`; `spec` is None for no data."""

    spec: str | None
    image_size: int | None = None
    limit: int | None = None

    @classmethod
    def of(cls, config: DataConfig) -> Self:
        """The choice that a configuration holds."""
        return cls(config.data, config.image_size, config.limit)

    @property
    def fields(self) -> dict[str, str | int | None]:
        """The choice as fields of a configuration (`wb.jobs.frame.config.DataConfig`)."""
        return {"data": self.spec, "image_size": self.image_size, "limit": self.limit}


def choose(
    files: Sequence[Path],
    spec: str | None,
    image_size: int | None = None,
    limit: int | None = None,
    *,
    say: Say,
    needed: bool = True,
    guess: bool = True,
    graphs: bool = False,
) -> Choice:
    """The data for the models in `files`; without files for the stock model. With `graphs`, files may be ONNX graphs too.

    Without `spec` the data and their limit come from the models' history. Data from a history, and all that are files of images,
    get the image size that the models take. If no history names data, `guess` allows digits if they fit. Unless data are
    `needed`, there may be none. `say` is called about every choice that the user did not make.

    Raises:
        BadArtefact: a file is no model and no ONNX graph, or damaged.
        BadOption: no data are named and none are known, or the known data no longer exist.
    """
    for file in files:
        if graphs:
            need(file, *MODELS, "onnx", expected=GRAPH)
        else:
            need_model(file)
    if not files:
        return Choice(resolved(spec or STOCK), image_size, limit)
    if spec is not None:
        named = resolved(spec)
        of_files = Spec.parse(named).form in (FOLDERS, HUB)
        side = _side(files[0], about(files[0])[0]) if of_files and image_size is None else None
        return Choice(named, side if image_size is None else image_size, limit)
    architectures, histories = zip(*(about(file) for file in files), strict=True)
    known = _common(histories)
    if known is not None and known.there:
        form = Spec.parse(known.spec).form
        side = _side(files[0], architectures[0])
        own = None if side == _NATIVE.get(form) else side
        size = next((one for one in (image_size, known.image_size, own) if one is not None), None)
        limit = known.limit if limit is None else limit
        extent = "" if size is None else f" at {size}x{size}"
        extent += "" if limit is None else f", {limit} training images"
        say(f"data: {known.spec}{extent}, as the history of {files[0]} says; --data names others")
        return Choice(resolved(known.spec), size, limit)
    if guess and not any(map(data_of, histories)) and all(map(_takes_digits, architectures)):
        say(f"data: digits, which {files[0]} takes, for its history names none; --data names others")
        return Choice(STOCK, image_size, limit)
    _without_data(files, histories, needed, say)
    return Choice(None, image_size, limit)


def chosen(
    given: Mapping[str, Any], files: Sequence[Path], background: str | None, *, say: Say, **which: bool
) -> dict[str, Any]:
    """`given`, options by field, with the data for the models in `files`. Raises as `choose` and `given_data` do."""
    spec = given_data(given.get("data"), background)
    return {**given, **choose(files, spec, given.get("image_size"), given.get("limit"), say=say, **which).fields}


def given_data(data: str | None, background: str | None) -> str | None:
    """The named data with their background for transparent images; None if neither is given.

    Raises:
        BadOption: no colour, or data that are no folder of images.
    """
    return data if background is None else with_background(data, background)


def read(
    file: Path | None,
    choice: Choice,
    seed: int,
    progress: Progress,
    *,
    say: Say,
    by_index: bool,
    texts: bool = False,
) -> tuple[Model, Dataset]:
    """The model in `file`, or the stock model, and its data with classes in the model's order; `say` gets notes on both.

    With `texts` it may be a network that takes texts, which then are written with its own tokenizer.

    Raises:
        BadData: the data are damaged or do not fit the model, or have other classes.
        Unsupported: the model takes texts, and not `texts`.
        WbError: as `read_model` and `wb.data.load` say.
    """
    data = load_data(choice.spec or STOCK, image_size=choice.image_size, limit=choice.limit)
    model = read_model(file, data, seed, progress)
    (refuse_decoder if texts else check_images)(model.architecture, str(file or "the stock model"))
    data, notes = fitted(
        taken(data, model.architecture, model.history),
        model.architecture,
        str(file or "the stock model"),
        by_index=by_index,
    )
    for note in (*notes, *changed(model.history, data)):
        say(note)
    return model, data


def refuse_decoder(architecture: Architecture | None, what: str) -> None:
    """Raises `Unsupported` for a network that continues texts, where only networks that classify are worked on."""
    if architecture is not None and architecture.causal:
        raise Unsupported(
            f"{what} takes text that it continues token by token, and this works on networks that classify; decoders can be "
            "trained, searched (wb search --space decoder), exported, measured, and asked for text (wb generate)"
        )


def check_images(architecture: Architecture | None, what: str) -> None:
    """Raises `Unsupported` for a network that takes texts, which some jobs on trained models do not work on yet."""
    refuse_decoder(architecture, what)
    if architecture is not None and architecture.input.usual_tokens is not None:
        raise Unsupported(
            f"{what} takes texts, and this works on networks that take images; networks of texts can be trained, searched, "
            "pruned, quantized, fused, bundled, exported, measured and asked"
        )


def read_for(config: JobConfig, file: Path | None, seed: int, progress: Progress, *, say: Say) -> tuple[Model, Dataset]:
    """The model and the data of a job, read on its threads. Raises as `read` does."""
    torch.set_num_threads(config.threads)
    return read(file, Choice.of(config), seed, progress, say=say, by_index=config.by_index, texts=config.takes_texts)


def read_model(file: Path | None, data: Dataset, seed: int, progress: Progress) -> Model:
    """The model in `file`, or the stock model of `data`, which is trained on first use.

    Raises:
        BadArtefact: the file cannot be read or is no model.
        StorageFailed: the cache cannot be written.
        TrainingDiverged: the loss is NaN or infinite.
    """
    if file is not None:
        return load(file)
    return Stock(data, seed)(
        lambda epoch, of, loss: progress(f"training the stock model once, loss {loss:.3f}", epoch, of)
    )


def read_architecture(path: Path) -> Architecture:
    """The architecture in a JSON file or in a model file, whose weights are ignored.

    Raises:
        BadArtefact: the file cannot be read, or is neither.
    """
    if need(path, "architecture", "json", *MODELS, expected=ARCHITECTURE) in MODELS:
        return load(path).architecture
    text = read_text(path, "an architecture as JSON, or a model file")
    try:
        return Architecture.from_json(text)
    except BadArtefact as error:
        raise BadArtefact(f"{path}: {error}; expected an architecture as JSON, or a model file") from error


def read_data(
    file: Path, choice: Choice, images: Preparation | None = None, *, by_index: bool
) -> tuple[Dataset, list[str]]:
    """The data for the model or graph in `file`, with classes in its order, and notes for the user.

    For a foreign graph, `images` prepares the images.

    Raises:
        BadArtefact: no model and no ONNX file, or damaged metadata.
        BadData: the data are damaged or do not fit the model, or have other classes.
        BadOption: `images` are of another number of channels.
    """
    data = load_data(choice.spec or STOCK, image_size=choice.image_size, limit=choice.limit)
    architecture, history = about(file)
    if architecture is not None:
        data, notes = fitted(taken(data, architecture, history), architecture, str(file), by_index=by_index)
        return data, [*notes, *changed(history, data)]
    vocabulary = read_vocabulary(file)
    if vocabulary is not None and data.train.vocabulary is not None:
        data = data.written_by(vocabulary)
    labels, classes = read_classes(file)
    data, notes = matched(data, labels, classes, str(file), by_index=by_index)
    if data.train.vocabulary is not None and images is None:
        return data, notes
    return data.prepared(images), [described(images), *notes]


UNWRITTEN = (
    "the model was imported without a tokenizer, so that no text can be written for it; put its tokenizer.json beside its "
    "weights and import it again"
)


def taken(data: Dataset, architecture: Architecture, history: Iterable[Step]) -> Dataset:
    """`data` as a model with that history takes them: texts written with its own tokenizer and cut to its longest.

    Data that say a shorter length have that.

    Raises:
        BadArtefact: the model was imported without a tokenizer, so that its ids mean nothing here.
    """
    steps = tuple(history)
    tokenizer = tokenizer_of(steps)
    if data.train.vocabulary is None or (tokenizer is None and not any(step.name == IMPORT for step in steps)):
        return data
    if tokenizer is None:
        raise BadArtefact(UNWRITTEN)
    from wb.data.texts.vocabulary import Vocabulary  # imports a library that only texts need

    asked = dict(Spec.parse(data.spec).choices).get("length")
    longest = int(architecture.layout.shape[0])
    length = longest if asked is None else min(longest, int(asked))
    usual = min(length, architecture.input.usual_tokens or length)
    return data.written_by(Vocabulary(tokenizer, length, usual))


def load_sized(
    spec: str,
    architecture: Architecture,
    model: str,
    say: Say,
    *,
    image_size: int | None = None,
    limit: int | None = None,
) -> Dataset:
    """The data that `spec` names; images have the size that `architecture` takes, if that is a square and none is asked for.

    `model` is its name for `say`. Raises as `wb.data.load` does.
    """
    if architecture.input.usual_tokens is not None:
        return load_data(spec, limit=limit)
    taken, parsed = architecture.image, Spec.parse(spec)
    square = image_size is None and taken.height == taken.width and not parsed.features
    at_once = square and parsed.form in (FOLDERS, HUB)  # files are decoded once
    data = load_data(spec, image_size=taken.height if at_once else image_size, limit=limit)
    if data.train.vocabulary is not None:
        return data
    if not square or (data.height, data.width) == (taken.height, taken.width):
        return data
    say(f"images of {data.height}x{data.width} are resized to {taken.height}x{taken.width}, which {model} takes")
    return load_data(spec, image_size=taken.height, limit=limit)


def about(path: Path) -> tuple[Architecture | None, tuple[Step, ...]]:
    """The architecture and the history in a model file or an ONNX graph, without reading weights if possible.

    A graph stores no paths of data, so that the history comes from the model file beside it if that has the same architecture. A
    graph with a damaged architecture is treated as a foreign graph.

    Raises:
        BadArtefact: neither, or damaged.
    """
    if path.suffix != ".onnx":
        return read_header(path)
    metadata = read_metadata(path)  # what is wrong with the file itself is an error
    try:
        architecture = architecture_of_graph(path)
    except BadArtefact:
        architecture = None
    beside = path.with_suffix(".safetensors")
    if architecture is not None and beside.is_file():
        own, history = read_header(beside)
        if own == architecture:
            return architecture, history
    history = read_history(metadata.get("wb.history", "[]"), path)
    if TOKENIZER_KEY in metadata:
        history = (*history, Step(name="export", arguments={TOKENIZER: metadata[TOKENIZER_KEY]}))
    return architecture, history


def changed(history: Iterable[Step], data: Dataset) -> list[str]:
    """A note if `data` are those of the history by name, but have other content."""
    known = data_of(history)
    if known is None or known.fingerprint in (None, data.fingerprint):
        return []
    if (resolved(known.spec), known.limit) != (data.spec, data.limit):
        return []
    return [
        f"{data.spec} has changed since the model was trained with it (fingerprint {data.fingerprint}, then {known.fingerprint})"
    ]


def _common(histories: Iterable[Iterable[Step]]) -> Known | None:
    """The data that all histories name, with the image size and limit that they agree on."""
    every = [data_of(history) for history in histories]
    known = [data for data in every if data is not None]
    if len(known) < len(every) or len({data.spec for data in known}) != 1:
        return None
    sizes, limits = ({data.image_size for data in known}, {data.limit for data in known})
    return Known(known[0].spec, None, *(found.pop() if len(found) == 1 else None for found in (sizes, limits)))


def _side(path: Path, architecture: Architecture | None) -> int | None:
    """The side of the square images that a network takes; None if they are not square or it is not known."""
    if architecture is not None:
        _, *size = architecture.input.specs()[0].example
        return int(size[0]) if len(size) == 2 and size[0] == size[1] else None
    height, width = read_image(path)
    return height if height == width else None


def _takes_digits(architecture: Architecture | None) -> bool:
    if architecture is None:
        return False
    side = _NATIVE[STOCK]
    return architecture.input.specs() == (image_spec(1, side, side),) and architecture.head.classes == 10


def _without_data(files: Sequence[Path], histories: Iterable[Iterable[Step]], needed: bool, say: Say) -> None:
    """Notes that data are missing or that histories differ. Raises `BadOption` if data are `needed`."""
    named = {str(file): data.spec for file, history in zip(files, histories, strict=True) if (data := data_of(history))}
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
