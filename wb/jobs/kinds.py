"""Kinds of files, recognised by content, and the command that reads each kind."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from wb.core.errors import BadArtefact
from wb.core.system.files import irregular

if TYPE_CHECKING:
    from wb.jobs.frame.job import Job

Kind = Literal[
    "model", "weights", "torch", "pickle", "onnx", "architecture", "record", "run record", "json", "run", "unfinished",
    "checkpoint", "pictures", "folder", "picture", "arrays", "study", "page", "empty", "special", "unknown",
]  # fmt: skip
JOBS: Mapping[str, str] = {  # by the `kind` of their records
    "pruning": "wb.compress.prune.job:PruneJob",
    "fusion": "wb.fusion.job.job:FuseJob",
    "quantization": "wb.compress.quantize.job:QuantizeJob",
    "binarization": "wb.compress.binarize.job:BinarizeJob",
    "conversion": "wb.compress.convert.job:ConvertJob",
    "early exits": "wb.compress.exits.job:ExitsJob",
    "search from a model": "wb.search.trained.job:TrainedJob",
    "aspect sweep": "wb.jobs.sweep.job:AspectJob",
}
LARGEST = 64 << 20  # bytes of JSON that are read at most

MODELS: tuple[Kind, ...] = ("model", "torch", "weights", "checkpoint")  # that `wb.foreign.reading` reads
STATE_DICTS = (".pt", ".pth", ".bin")  # endings of torch's files
MODEL = "a model file (.safetensors or .pt) or a checkpoint of another library"
GRAPH = f"{MODEL} or an ONNX graph"
ARCHITECTURE = f"an architecture as JSON, or {MODEL}"
RUN = "a run folder of `wb search`, or the JSON that another command wrote as its record"


class About(NamedTuple):
    """What a kind is called, and which command reads it; `{path}` is the file."""

    what: str
    advice: str
    ending: str | None = None  # that readers require


KINDS: Mapping[Kind, About] = {
    "model": About(
        "a model file of wb's", "`wb show {path}` shows it, `wb export` makes an ONNX graph of it", ".safetensors"
    ),
    "weights": About(
        "a file of weights without an architecture",
        "`wb import` reads those of families that it knows, `wb prune depgraph --weights` any",
        ".safetensors",
    ),
    "checkpoint": About("a folder with a checkpoint of another library", "`wb import {path}` makes a model file of it"),
    "torch": About("a torch file", "if `wb` wrote it, `wb show {path}` shows it", ".pt"),
    "pickle": About("a pickle", "pickles can run code and are never read; save its weights as .safetensors"),
    "onnx": About("an ONNX graph already", "`wb measure`, `wb quantize` and `wb show` read it", ".onnx"),
    "architecture": About("an architecture as JSON, without weights", "`wb train --architecture {path}` trains it"),
    "record": About("the record of a job as JSON", "`wb report {path}` makes a page of it; its model lies beside it"),
    "run record": About("a file of a run folder", "`wb show {folder}` shows the run"),
    "json": About("JSON of a kind that wb does not know", "check the path"),
    "run": About(
        "a run folder of `wb search`",
        "`wb show {path}` lists its networks, and their files are in {path}/models; `wb search --resume {path}` continues it",
    ),
    "unfinished": About(
        "the folder of a job that was interrupted", "the command that made it, with the same --out, continues it"
    ),
    "pictures": About("a folder of images", "`--data imagefolder:{path}` reads one folder of images for each class"),
    "folder": About("a folder of nothing that wb knows", "give one of the files in it"),
    "picture": About(
        "a picture", "`--data imagefolder:FOLDER` reads a folder with one folder of images for each class"
    ),
    "arrays": About(
        "a file of NumPy arrays",
        "`--data npz:{path}` reads images and labels from it, `wb quantize --calibration {path}` inputs",
    ),
    "study": About("the database of a search", "`wb show {folder}` shows its run"),
    "page": About("a page for a browser", "open it there; the JSON beside it is what `wb report` reads"),
    "empty": About("an empty file", "write or download it again"),
    "special": About("a named pipe", "give a file"),  # or a socket or a device, of which `irregular` tells
    "unknown": About("of no kind that wb knows, or damaged", "check the path, or write it again"),
}

_PICTURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_MODEL_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2"  # tags that may follow the version in an ONNX file


def job_of(kind: str | None) -> type[Job[Any]]:
    """The job class for records of `kind`; records of pruning have no kind, so None is theirs."""
    found: type[Job[Any]] = resolve_name(JOBS.get(kind or "", JOBS["pruning"]))
    return found


def need(path: Path, *accepted: Kind, expected: str) -> Kind:
    """The kind of the file at `path`; raises unless it is one of `accepted`, or may be a damaged file of such a kind.

    Raises:
        BadArtefact: the file is of another kind, has a name that its readers do not know, or does not exist. The message says
            what it is, what was `expected`, and which command reads it.
    """
    why = irregular(path)
    if why == "does not exist":
        raise BadArtefact(f"there is no file {path}; expected {expected}")
    if why not in (None, "is a folder"):
        raise BadArtefact(f"{path} {why}; expected {expected}; {KINDS['special'].advice}")
    try:
        kind = kind_of(path)
    except OSError as error:
        raise BadArtefact(f"{path} cannot be read ({error.strerror or error}); expected {expected}") from error
    what, advice, ending = KINDS[kind]
    endings = {KINDS[one].ending for one in accepted}
    if kind not in accepted and not (kind == "unknown" and path.suffix in endings):  # its reader says what is damaged
        raise BadArtefact(f"{path} is {what}; expected {expected}; {advice.format(path=path, folder=path.parent)}")
    state_dict = kind == "torch" and path.suffix in STATE_DICTS
    if ending is not None and ending != path.suffix and not state_dict and {ending, path.suffix} & {".pt", ".onnx"}:
        raise BadArtefact(
            f"{path} is {what.removesuffix(' already')} by its content, but not by its name; rename it to end in {ending}"
        )
    return kind


def need_model(path: Path | None) -> None:
    """Raises `BadArtefact` as `need` does, unless `path` is None, a model file or a checkpoint of another library."""
    if path is not None:
        need(path, *MODELS, expected=MODEL)


def kind_of(path: Path) -> Kind:
    """The kind of the file or folder at `path`. Raises `OSError` if it cannot be read."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        return _folder(path)
    if not stat.S_ISREG(mode):
        return "special"
    with path.open("rb") as file:
        start = file.read(512)
    header = _safetensors(path, start)  # first, because its first bytes are a size and may look like any other kind
    if header is not None:
        metadata = header.get("__metadata__")
        return "model" if isinstance(metadata, dict) and "wb.architecture" in metadata else "weights"
    return _by_start(start) or _by_content(path, start)


def _folder(path: Path) -> Kind:
    if (path / "run.json").is_file():
        return "run"
    if path.suffix == ".partial" and (path / "record.json").is_file():
        return "unfinished"
    if _is_checkpoint(path):
        return "checkpoint"
    endings = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
    inside = [file for pattern in ("*", "*/*", "*/*/*") for file in _few(path, pattern)]
    return "pictures" if any(file.suffix.lower() in endings for file in inside) else "folder"


def _is_checkpoint(path: Path) -> bool:
    """Whether a folder is as transformers and timm leave it: weights with a configuration, or an index of several files."""
    weights = [file for ending in (".safetensors", *STATE_DICTS) for file in _few(path, f"*{ending}")]
    indices = _few(path, "*.index.json")
    return bool(weights or indices) and ((path / "config.json").is_file() or bool(indices))


def _few(path: Path, pattern: str) -> list[Path]:
    """The first 50 matches in a folder, which may have a million."""
    return [file for file, _ in zip(path.glob(pattern), range(50), strict=False)]


def _by_start(start: bytes) -> Kind | None:
    """The kind, if the first bytes show it."""
    if not start:
        return "empty"
    if start.startswith(_PICTURES) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return "picture"
    if start.startswith(b"SQLite format 3\0"):
        return "study"
    if start.startswith(b"\x93NUMPY"):
        return "arrays"
    if start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "page"
    return "onnx" if start[0] == 0x08 and start[2:3] in _tags() else None


def _tags() -> tuple[bytes, ...]:
    return tuple(bytes([tag]) for tag in _MODEL_FIELDS)


def _by_content(path: Path, start: bytes) -> Kind:
    if start.startswith(b"PK"):
        return _archive(path)
    if start.lstrip()[:1] in (b"{", b"["):
        return _json(path)
    return "onnx" if path.suffix == ".onnx" and start[:1] in _tags() else "unknown"


def _archive(path: Path) -> Kind:
    with suppress(zipfile.BadZipFile, ValueError, NotImplementedError), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return "torch"
        if names and all(name.endswith(".npy") for name in names):
            return "arrays"
    return "torch" if path.suffix in STATE_DICTS else "unknown"


def _safetensors(path: Path, start: bytes) -> dict[str, Any] | None:
    """The header of a safetensors file, if it is one."""
    size = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or not 2 <= size <= min(LARGEST, path.stat().st_size - 8):
        return None
    with path.open("rb") as file:
        file.seek(8)
        return _parsed(file.read(size))


def _json(path: Path) -> Kind:
    if path.stat().st_size > LARGEST:
        return "json"
    content = _parsed(path.read_bytes())
    if content is None:
        return "run record" if path.name == "front.json" else "json"
    if content.get("kind") in JOBS or {"dense", "results", "config"} <= content.keys():
        return "record"
    if {"study", "pace", "config"} <= content.keys():
        return "run record"
    return "architecture" if {"stem", "stages"} <= content.keys() else "json"


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        return content if isinstance(content, dict) else None
    return None
