"""Export of a model file as an ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

from wb.core.errors import BadOption, Unsupported
from wb.core.measures.readings import Reading
from wb.core.system.files import write_text
from wb.export.exits.graph import export_exiting
from wb.export.graph import OPSET, export
from wb.export.plain.write import export_plain
from wb.export.stages import export_stages
from wb.foreign.exporting import To, export_checkpoint
from wb.foreign.reading import load
from wb.jobs.frame.output import GRAPHS, MODELS, check_ending, check_free
from wb.jobs.kinds import need_model
from wb.models.exits.files import exits_of, load_exiting
from wb.models.files.history import tokenizer_of
from wb.models.passes.base import apply
from wb.models.passes.mirror import Mirror

OPSETS = range(17, 24)
_FORMS = "--to torch, hf, timm or source"
_OF_FILES = (*MODELS, *GRAPHS, ".py", ".bin", ".pth", ".json")  # endings that no folder has


def export_file(model: Path, out: Path, *, opset: int, exporter: str, force: bool, mirror: bool = False) -> Reading:
    """Exports `model` to `out`; returns the largest difference between the logits of the graph and of the model.

    The tokenizer of a network for texts is written beside it.
    With `mirror` the graph also looks at the mirror image of what it is given (`wb.models.passes.mirror`).

    Raises:
        BadArtefact: `model` is no model file.
        BadOption: an unknown exporter or opset, or an output that is no name for a graph or exists already.
        ExportDiffers: the graph does not compute what the model does.
    """
    need_model(model)
    if exporter not in ("torchscript", "dynamo"):
        raise BadOption(f"no exporter {exporter!r}; there are torchscript and dynamo")
    if opset not in OPSETS:
        raise BadOption(f"no opset {opset}; there are {OPSETS[0]} to {OPSETS[-1]}")
    if out.is_dir():
        raise BadOption(f"{out} is a folder, and a graph is a file that ends in .onnx; {_FORMS} writes a folder")
    check_ending(out, GRAPHS)
    if exporter == "torchscript" and opset > 20:
        raise BadOption(f"the torchscript exporter ends at opset 20; for opset {opset} say --exporter dynamo")
    if exits_of(model) is not None:
        if mirror or exporter != "torchscript" or opset != OPSET:
            option = "--mirror" if mirror else "--exporter" if exporter != "torchscript" else "--opset"
            raise BadOption(f"{option} is for models without early exits, and {model} has some; leave it out")
        return export_exiting(load_exiting(model), out, force=force)
    given = load(model)
    network = apply(Mirror(), given) if mirror else given
    tokenizer, beside = tokenizer_of(network.history), out.with_suffix(".tokenizer.json")
    if tokenizer is not None:
        check_free(beside, force=force)
    found = export(network, out, opset=opset, exporter=exporter, force=force)  # type: ignore[arg-type]  # checked above
    if tokenizer is not None:
        write_text(beside, tokenizer, force=force)
    return found


def export_line(model: Path, folder: Path, count: int, *, opset: int, force: bool, mirror: bool = False) -> Reading:
    """Exports `model` as `count` graphs in `folder`, which go one after the other (`wb.export.stages`).

    Raises:
        BadArtefact: `model` is no model file.
        BadOption: more stages than blocks, a name that is a file's, or files that exist already.
        ExportDiffers: the graphs do not compute what the model does.
        Unsupported: it has early exits, or continues texts.
    """
    need_model(model)
    if folder.suffix in _OF_FILES:
        raise BadOption(f"{folder} is a file's name, and --stages writes several; name a folder")
    if exits_of(model) is not None:
        raise Unsupported(f"{model} has early exits, which leave a line of graphs in the middle; leave --stages out")
    given = load(model)
    return export_stages(apply(Mirror(), given) if mirror else given, folder, count, opset=opset, force=force)


def export_to(model: Path, to: str, folder: Path, *, force: bool, mirror: bool = False) -> list[Path]:
    """Writes `model` into `folder` for another library, as `to` says; returns the files.

    Raises:
        BadArtefact: `model` is no model file.
        BadOption: an unknown `to`, a file in the way or in the place of the folder, or a model that has no source to go back to.
        Unsupported: the library's format cannot say the network.
    """
    need_model(model)
    if to not in ("torch", *get_args(To)):
        raise BadOption(f"no form {to!r}; there are onnx, torch, {', '.join(get_args(To))}")
    if not folder.is_dir() and (folder.exists() or folder.suffix in _OF_FILES):
        what = "is a file" if folder.exists() else "is a file's name"
        raise BadOption(f"{folder} {what}, and --to {to} writes a folder of files; name a folder")
    given = load(model)
    network = apply(Mirror(), given) if mirror else given
    if to == "torch":
        return export_plain(network, folder, force=force)
    return export_checkpoint(network, cast(To, to), folder, force=force)
