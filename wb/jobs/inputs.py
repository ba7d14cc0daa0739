"""Inputs of commands: models and data given by file, by name, or left to defaults.

Data that are not named are taken from the model's history; `wb.jobs.reading` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.specs import image_spec
from wb.core.system.files import read_text
from wb.data import Dataset
from wb.data.dataset import TRAINED_ON, WHOLE
from wb.data.spec import FOLDERS, HUB, LISTOPS, LM, TABLES, Spec, resolved, with_background, with_truncation
from wb.export.foreign.opening import read_metadata
from wb.export.graph import TOKENIZER_KEY, read_image
from wb.export.graph import read_architecture as architecture_of_graph
from wb.foreign.reading import load, read_header
from wb.jobs.frame.config import DataConfig
from wb.jobs.kinds import ARCHITECTURE, GRAPH, MODELS, need, need_model
from wb.models.files.header import TOKENIZER
from wb.models.files.history import Known, data_of
from wb.models.model import Model, Step, read_history
from wb.spaces.stock import Stock

Say = Callable[[str], None]  # receives a note for the user about something that was not asked for
STOCK = "digits"
_NOUNS = dict.fromkeys((*TABLES, LISTOPS), "texts") | {LM: "passages"}  # of data that are no images
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
    truncate: bool = False,
) -> Choice:
    """The data for the models in `files`; without files for the stock model. With `graphs`, files may be ONNX graphs too.

    Without `spec` the data and their limit come from the models' history. Data from a history, and all that are files of images,
    get the image size that the models take. If no history names data, `guess` allows digits if they fit. Unless data are
    `needed`, there may be none. `say` is called about every choice that the user did not make. The beginnings alone of long
    texts are read if these are to be `truncate`d.

    Raises:
        BadArtefact: a file is no model and no ONNX graph, or damaged.
        BadOption: no data are named and none are known, or the known data no longer exist; or no texts are to be truncated.
    """
    found = _choose(files, spec, image_size, limit, say=say, needed=needed, guess=guess, graphs=graphs)
    if not truncate:
        return found
    if found.spec is None:
        raise BadOption("--truncate is of no use without data; name texts with --data")
    return replace(found, spec=with_truncation(found.spec))


def _choose(
    files: Sequence[Path],
    spec: str | None,
    image_size: int | None,
    limit: int | None,
    *,
    say: Say,
    needed: bool,
    guess: bool,
    graphs: bool,
) -> Choice:
    """The data, as they are named or known."""
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
        seen = [(file, history) for file in files for _, history in [about(file)] if _is_of(history, named)]
        _say_seen(seen, say)
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
        extent += "" if limit is None else f", {limit} training {_NOUNS.get(form, 'images')}"
        say(f"data: {known.spec}{extent}, as the history of {files[0]} says; --data names others")
        _say_seen(zip(files, histories, strict=True), say)
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


def refuse_decoder(architecture: Architecture | None, what: str) -> None:
    """Raises `Unsupported` for a network that continues texts, where only networks that classify are worked on."""
    if architecture is not None and architecture.causal:
        raise Unsupported(
            f"{what} continues texts token by token, and this names classes; ask it for text with wb generate, and measure it "
            "with wb measure"
        )


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


def _common(histories: Iterable[Iterable[Step]]) -> Known | None:
    """The data that all histories name, with the image size and limit that they agree on."""
    every = [data_of(history) for history in histories]
    known = [data for data in every if data is not None]
    if len(known) < len(every) or len({data.spec for data in known}) != 1:
        return None
    sizes, limits = ({data.image_size for data in known}, {data.limit for data in known})
    return Known(known[0].spec, None, *(found.pop() if len(found) == 1 else None for found in (sizes, limits)))


def _is_of(history: Sequence[Step], named: str) -> bool:
    """Whether a model was trained on these data, by their name."""
    known = data_of(history)
    return known is not None and resolved(known.spec) == named


def _say_seen(models: Iterable[tuple[Path, Iterable[Step]]], say: Say) -> None:
    """Notes which models have learned from the examples of validation too."""
    for file, history in models:
        if any(step.arguments.get(TRAINED_ON) == WHOLE for step in history):
            say(f"{file} has learned from the validation examples too: what is read on them is too good")


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
