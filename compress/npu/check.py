"""`wb device check --npu`: what an NPU that is not here takes of a network, and what it computes; never how long that takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from wb.compress.npu.quantized import ACTIVATIONS, quantized
from wb.compress.npu.report import Report, Tried
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption, Unsupported
from wb.core.system.files import place, scratch
from wb.data import Dataset, Split
from wb.export.exits.ways import export_any, graph_exits
from wb.export.foreign.trial import try_out
from wb.export.npu import qnn
from wb.export.run import Runner
from wb.hardware.device import Device, example_inputs, session
from wb.hardware.runtimes.shapes import shaped
from wb.jobs.inputs import Say, about, choose
from wb.jobs.kinds import GRAPH, MODELS, need
from wb.jobs.reading import read_data
from wb.jobs.verbs.preparation import of_graph

AS_IS = "fp16"  # the graph as it is; what is in floating point has 16 bits there
PRECISIONS = (AS_IS, *ACTIVATIONS)
CALIBRATION = 32  # examples of the training split that ranges of activations are found on
Rows = Mapping[str, NDArray[Any]]  # by the names of inputs, each (runs, examples a run, ...)


@dataclass(frozen=True)
class NpuCheck:
    """Compiles a network for the processor `soc` in each of `precisions`, and simulates it on `examples` of `data`."""

    soc: str = qnn.SOC
    precisions: tuple[str, ...] = (AS_IS,)
    data: str | None = None
    examples: int = 8

    @classmethod
    def of(cls, soc: str, precisions: str, data: str | None, examples: int) -> NpuCheck:
        """As the command is given it. Raises `BadOption` for a processor or a precision that there is not."""
        qnn.soc_of(soc)
        names = tuple(name.strip() for name in precisions.split(","))
        if not set(names) <= set(PRECISIONS) or len(set(names)) < len(names):
            raise BadOption(f"--precision {precisions!r}; give some of {', '.join(PRECISIONS)}, each once")
        return cls(soc, names, data, examples)

    def __call__(self, file: Path, out: Path | None, progress: Progress, say: Say, *, force: bool = False) -> Report:
        """Checks the model or graph in `file`; the compiled file goes to `out`.

        Raises:
            BadOption: `out` exists and `force` is false, or is a folder or `file` itself, or there are several precisions; no
                data for ranges of activations.
            MissingExtra: the compiler is not installed.
            StorageFailed: `out` cannot be written.
            Unsupported: a network with several ways or with a cache, or this machine has no simulator.
            WbError: the file or the data are damaged or do not fit each other.
        """
        self._check_out(file, out, force)
        release = qnn.check_installed()
        kind = need(file, *MODELS, "onnx", expected=GRAPH)
        with scratch() as folder:
            graph = self._graph(file, kind, folder, progress)
            dataset = self._dataset(file, graph, say)
            runner = Runner(graph, Device())
            rows, told = self._rows(graph, runner, dataset)
            model = shaped(graph, {name: values[0] for name, values in rows.items()})
            del model.metadata_props[:]  # the quantizer's preparation fails on them
            expected = _run(model, rows, runner.output)
            tried = []
            for precision in self.precisions:
                compiled = folder / f"{precision}.onnx"
                made = self._made(model, precision, runner, dataset, progress)
                given = expected if made is model else _run(made, rows, runner.output)
                found = qnn.simulate(
                    made.SerializeToString(),
                    rows,
                    runner.output,
                    qnn.soc_of(self.soc),
                    compiled,
                    _telling(progress, precision, len(next(iter(rows.values())))),
                )
                size = compiled.stat().st_size if compiled.exists() else None
                tried.append(Tried(precision, found, given, expected, size))
            kept = out is not None and compiled.exists() and not found.failure
            if out is not None and kept:
                place(compiled, out, force=force)
        return Report(str(file), self.soc, release, told, tuple(tried), out if kept else None)

    def _check_out(self, file: Path, out: Path | None, force: bool) -> None:
        if out is None:
            return
        if len(self.precisions) > 1:
            raise BadOption(f"--out keeps one compiled file, and there are {len(self.precisions)} precisions; name one")
        if out.is_dir():
            raise BadOption(f"{out} is a folder; name a file in it, such as {out / 'compiled.onnx'}")
        if out.exists() and file.exists() and out.samefile(file):
            raise BadOption(f"{out} is the network itself, which the compiled file would replace; choose another file")
        if out.exists() and not force:
            raise BadOption(f"{out} exists; choose another file, or say --force")
        if not out.parent.is_dir():
            raise BadOption(f"there is no folder {out.parent} for {out.name}; make it, or choose another")

    def _graph(self, file: Path, kind: str, folder: Path, progress: Progress) -> Path:
        """The graph of a model, or a graph that was tried out."""
        architecture, _ = about(file)
        if architecture is not None and architecture.causal:
            raise Unsupported(
                f"{file} continues texts, with a cache that grows; an NPU takes graphs of fixed shapes. Give a network for "
                "images, or for whole texts"
            )
        graph = file
        if kind == "onnx":
            progress("trying it out", 0, 0)
            try_out(file, Device())
        else:
            progress("exporting", 0, 0)
            graph = folder / "model.onnx"
            export_any(file, graph)
        if graph_exits(graph) is not None:
            raise Unsupported(f"{file} has early exits, and an NPU takes graphs with one way; give the model without")
        return graph

    def _dataset(self, file: Path, graph: Path, say: Say) -> Dataset | None:
        choice = choose([file], self.data, say=say, needed=False, graphs=True)
        if choice.spec is not None:
            return read_data(file, choice, of_graph(graph, None), by_index=False)[0]
        if set(self.precisions) & set(ACTIVATIONS):
            raise BadOption(
                f"--precision {','.join(self.precisions)} needs examples for ranges of activations; name some with --data"
            )
        return None

    def _rows(self, graph: Path, runner: Runner, dataset: Dataset | None) -> tuple[Rows, str]:
        """What is simulated, and what that is."""
        size = runner.fixed or 1
        if dataset is not None:
            rows = _fed(runner, dataset.test, self.examples)
            count = math.prod(next(iter(rows.values())).shape[:2])
            return rows, f"{_plural(count, 'example')} of the test split of {dataset.name}"
        loaded = session(graph, Device())
        made = [example_inputs(loaded, size, seed) for seed in range(math.ceil(self.examples / size))]
        rows = {name: np.stack([one[name] for one in made]) for name in made[0]}
        return rows, _plural(size * len(made), "made-up input")

    def _made(
        self, model: onnx.ModelProto, precision: str, runner: Runner, dataset: Dataset | None, progress: Progress
    ) -> onnx.ModelProto:
        """The graph in that precision."""
        if precision == AS_IS or dataset is None:
            return model
        kinds = {node.op_type for node in model.graph.node}
        if any("Quantize" in kind or "Integer" in kind or "NBits" in kind for kind in kinds):
            raise BadOption(
                f"--precision {precision} is for graphs in floating point, and this one has weights in fewer bits; {AS_IS} "
                "compiles it as it is"
            )
        progress(f"finding ranges for {precision}", 0, 0)
        rows = _fed(runner, dataset.train, CALIBRATION)
        together = {name: values.reshape(-1, *values.shape[2:]) for name, values in rows.items()}
        return quantized(model, together, next(iter(rows.values())).shape[1], precision)


def _fed(runner: Runner, split: Split, count: int) -> Rows:
    """About `count` examples from all over a split, as so many runs as hold them."""
    size = runner.fixed or 1
    runs = min(math.ceil(count / size), len(split) // size)
    if not runs:
        raise BadOption(f"{runner.what} takes {size} examples a run, and the data have {len(split)}; give more data")
    feed = runner.fitted(split.feed(np.linspace(0, len(split) - 1, runs * size).astype(np.int64)))
    return {name: values.reshape(runs, size, *values.shape[1:]) for name, values in feed.items()}


def _run(model: onnx.ModelProto, rows: Rows, output: str) -> NDArray[np.float32]:
    """What ONNX Runtime gives on the processor: (runs, ...)."""
    loaded = session(model.SerializeToString(), Device())
    runs: Sequence[int] = range(len(next(iter(rows.values()))))
    given = [loaded.run([output], {name: values[i] for name, values in rows.items()})[0] for i in runs]
    return np.stack(given).astype(np.float32)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _telling(progress: Progress, precision: str, runs: int) -> Callable[[int], None]:
    progress(f"compiling as {precision}", 0, 0)
    return lambda ran: progress(f"simulating {precision}", ran, runs)
