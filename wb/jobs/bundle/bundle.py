"""`wb bundle` from start to end: files, card, checks, and the finished folder in its place at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime.tools.onnx_model_utils as fixing

from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.measures.readings import Reading
from wb.core.specs import BATCH
from wb.core.system.files import is_there, regular, scratch
from wb.data import Dataset
from wb.export.exits.ways import refuse_exits
from wb.export.graph import TOLERANCE, export, read_architecture
from wb.export.plain.write import CODE, export_plain
from wb.export.texts import read_vocabulary
from wb.foreign.reading import load
from wb.jobs.bundle.apart import try_apart
from wb.jobs.bundle.card import TOKENIZER_FILE, Contents, card_of, readme_of
from wb.jobs.bundle.config import BundleConfig, runtimes_of
from wb.jobs.bundle.place import CARD, check_place, publish, write_sums
from wb.jobs.bundle.runtimes import add, check_added, check_runtimes, measured_there
from wb.jobs.bundle.stored import exact, store
from wb.jobs.calls.shown import Shown, Table, readings_table
from wb.jobs.frame.config import MeasureConfig
from wb.jobs.inputs import Say, about, choose
from wb.jobs.kinds import GRAPH, MODELS, need
from wb.jobs.reading import read_data
from wb.jobs.verbs.measuring import Measuring
from wb.models.model import Model

if TYPE_CHECKING:
    from wb.data.texts.vocabulary import Vocabulary

MODEL, FIXED = "model.onnx", "model_b1.onnx"
OTHER = 0.5  # the same, from which on weights are those of another network and not of one in more bits
INFER, INFER_TEXTS, INFER_PROSE = (
    Path(__file__).with_name(name) for name in ("infer.py", "infer_texts.py", "infer_prose.py")
)
_SAME = """
import sys
import numpy as np, torch
from model import load
stored = np.load("check.npz")
with torch.inference_mode():
    found = load()(*(torch.from_numpy(stored[name]) for name in ("images", "ids", "mask") if name in stored)).numpy()
scale = np.maximum(1, np.abs(stored["logits"]).max(axis=-1, keepdims=True))
worst = float((np.abs(found - stored["logits"]) / scale).max())
raise SystemExit(0 if worst <= float(sys.argv[1]) else f"model.py differs by {worst:.2g} of the largest score")
"""


@dataclass(frozen=True, repr=False)
class Bundled(Shown):
    """A finished bundle: its folder, its files, what was read of its graph, and notes for the user."""

    folder: Path
    files: tuple[Path, ...]
    readings: Mapping[str, Reading]
    notes: tuple[str, ...]

    def table(self) -> Table:
        """The readings of its graph."""
        return readings_table(str(self.folder), self.readings, self.notes)


class Bundling(BundleConfig):
    """Makes bundles as a configuration says."""

    def __call__(self, file: Path, out: Path, progress: Progress, say: Say, *, force: bool = False) -> Bundled:
        """Puts the model or graph in `file` into the folder `out`, which appears once all is checked.

        A graph of the workbench is taken as it is; its model file, if it lies beside it, gives the part for PyTorch.

        Raises:
            BadOption: `out` exists and is no bundle, or is one and `force` is false; a licence that is no file and no name.
            BundleDiffers: the bundle's own check fails without `wb`; nothing is left in `out`.
            MissingExtra: one of `runtimes` is not there.
            Unsupported: a graph that is not the workbench's, or a network of texts for `runtimes`.
            WbError: as `wb.jobs.verbs.measuring.Measuring`.
        """
        check_place(out, force)
        licence = _Licence.of(self.licence)
        kind = need(file, *MODELS, "onnx", expected=GRAPH)
        if kind == "onnx" and read_architecture(file) is None:
            raise Unsupported(
                f"{file} is no graph of wb, so that wb knows neither its pictures nor its classes; wb import reads checkpoints "
                "of other libraries, and what it writes can be bundled"
            )
        architecture, history = about(file)
        if architecture is None:
            raise BadArtefact(f"the architecture in {file} is damaged; export the model again")
        refuse_exits(file, "a bundle")
        others = runtimes_of(self.runtimes)
        check_runtimes(others, architecture)
        texts = architecture.input.usual_tokens is not None
        with scratch() as folder:
            made = folder / "bundle"
            made.mkdir()
            measuring = Measuring(**{name: getattr(self, name) for name in MeasureConfig.model_fields})
            measured = measuring(file, progress, say)
            progress("writing the graphs", 0, 0)
            model = _graphs(file, kind, made)
            front = _write_tokenizer(file, made).front if texts else ()
            data = self._data(file)
            torch, notes = _plain(model, made)
            examples = store(architecture, data, made / MODEL, made / "check.npz")
            added = add(others, made / MODEL, made, progress)
            readings = dict(measured.readings)
            if data is not None:
                readings |= measured_there(others, made / MODEL, data, self.split)
            contents = Contents(
                file.stem,
                architecture,
                history,
                readings,
                measured.missing,
                data,
                examples,
                (MODEL, FIXED),
                torch,
                licence.name,
                notes,
                front,
                added,
            )
            progress("writing the card", 0, 0)
            _write(made, contents, licence, INFER_PROSE if architecture.causal else INFER_TEXTS if texts else INFER)
            progress("checking it without wb", 0, 0)
            _tried(
                made,
                folder,
                "tokenizers" if texts else "PIL",
                torch=(10 * TOLERANCE if exact(architecture) else OTHER) if torch else None,
            )
            check_added(others, made, INFER.name, folder)
            write_sums(made)
            publish(made, out)
        files = tuple(sorted(out.iterdir()))
        return Bundled(out, files, readings, (*measured.remarks, *notes))

    def _data(self, file: Path) -> Dataset | None:
        """The data that examples are taken from, if there are any; what was chosen has been said by the measurement."""
        choice = choose(
            [file], self.data, self.image_size, say=lambda _: None, needed=False, graphs=True, truncate=self.truncate
        )
        if choice.spec is None:
            return None
        return read_data(file, choice, by_index=self.by_index)[0]


@dataclass(frozen=True)
class _Licence:
    """The licence of weights: its name, and the file with its text, if that is known."""

    name: str | None
    file: Path | None

    @classmethod
    def of(cls, given: str | None) -> _Licence:
        """From a name or the path of a file. Raises `BadOption` for a text that looks like a path where there is no file."""
        if given is None or not (set(given) & {"/", "\\"} or is_there(given)):
            return cls(given, None)
        try:
            return cls(f"see LICENSE ({Path(given).name})", regular(Path(given), "a file with the text of a licence"))
        except BadArtefact as error:
            raise BadOption(f"--licence {given}: {error}, or the name of one, such as Apache-2.0") from error


def _graphs(file: Path, kind: str, made: Path) -> Model | None:
    """Writes the graph, and the graph for one example; returns the model, if it is there."""
    if kind == "onnx":
        shutil.copyfile(file, made / MODEL)
        beside = file.with_suffix(".safetensors")
        model = load(beside) if beside.is_file() and about(beside)[0] == read_architecture(file) else None
    else:
        model = load(file)
        export(model, made / MODEL)
    graph = onnx.load(made / MODEL)
    fixing.make_dim_param_fixed(graph.graph, BATCH, 1)
    fixing.fix_output_shapes(graph)
    onnx.save(graph, made / FIXED)
    return model


def _write_tokenizer(file: Path, made: Path) -> Vocabulary:
    """Writes the tokenizer of the graph, as `wb` reads texts with it: it neither cuts nor pads, nor draws merges.

    Raises:
        BadArtefact: `file` has none.
    """
    vocabulary = read_vocabulary(made / MODEL)
    if vocabulary is None:
        raise BadArtefact(
            f"{file} has no tokenizer, without which its texts cannot be read; train it, or export it, again"
        )
    (made / TOKENIZER_FILE).write_text(str(vocabulary.tokenizer.to_str()), encoding="utf-8")
    return vocabulary


def _plain(model: Model | None, made: Path) -> tuple[bool, list[str]]:
    """Writes the network for PyTorch; whether that could be done, and what there is to say."""
    if model is None:
        return False, ["No part for PyTorch: no model file beside the graph is the same network."]
    try:
        export_plain(model, made, force=True)  # the tokenizer is there already
    except Unsupported as error:
        return False, [f"No part for PyTorch: {error}."]
    if exact(model.architecture):
        return True, []
    return True, [f"{CODE} computes in float32; weights in int8 and int4 are rounded in the graphs only."]


def _write(made: Path, contents: Contents, licence: _Licence, script: Path) -> None:
    """Writes everything that people read, and the script."""
    card = card_of(contents)
    (made / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not contents.architecture.head.foresees:
        (made / "labels.txt").write_text("".join(f"{_line(name)}\n" for name in card["labels"]), encoding="utf-8")
    (made / "README.md").write_text(readme_of(card, contents.readings), encoding="utf-8")
    shutil.copyfile(script, made / INFER.name)
    if licence.file is not None:
        shutil.copyfile(licence.file, made / "LICENSE")


def _line(name: str) -> str:
    """A class name on one line."""
    return " ".join(name.split())


def _tried(made: Path, folder: Path, reads: str, *, torch: float | None) -> None:
    """Runs the bundle's own check, and its PyTorch part, where only their libraries can be imported: `reads` is for inputs.

    Scores of the latter may differ by `torch` of the largest one; None if there is no such part. Raises `BundleDiffers`.
    """
    trials: list[tuple[Sequence[str], Sequence[str]]] = [
        ((INFER.name, "--check"), ("numpy", "onnxruntime", reads)),
    ]
    if torch is not None:
        trials.append((("-c", _SAME, str(torch)), ("numpy", "torch")))
    for number, (script, libraries) in enumerate(trials):
        site = folder / f"site{number}"
        site.mkdir()
        try_apart(script, made, libraries, site)
