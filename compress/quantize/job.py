"""`wb quantize` from start to end: policy, graph, readings of quantized and float graph, verdict on the budget."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from wb import __version__
from wb.compress.ptq import calibration
from wb.compress.ptq.convolutions import slow_in_8_bits, static_products, without
from wb.compress.ptq.holdout import READ
from wb.compress.ptq.outputs import compare, outputs
from wb.compress.ptq.refused import refused
from wb.compress.ptq.sensitivity import Sensitivity
from wb.compress.ptq.static import static_int8
from wb.compress.ptq.subject import Choice
from wb.compress.quantize.budgeted import Mixed, candidates
from wb.compress.quantize.config import FITTED, QuantizeConfig
from wb.compress.quantize.record import OutputError, Quantization
from wb.compress.quantize.source import KEPT, REFUSED, Source
from wb.compress.quantize.verdict import check_budget, few_inputs
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.measures.metrics import usual_latency
from wb.core.measures.readings import Reading, ratio
from wb.core.records import Precision
from wb.export.assess import Assessor
from wb.export.lowering.products import loose
from wb.export.score import nats
from wb.export.timing.runs import readings_of
from wb.hardware.device import Device, parse_device
from wb.jobs.frame.job import Job
from wb.models.model import Step, load
from wb.tasks.known import task_of

STEPPED = 8  # passages that are read token by token


class QuantizeJob(Job[Quantization]):
    """One quantization: subject, data and record; `out` is the graph to write, a model file comes beside it.

    Sensitivities take long and are saved as they are measured. If no policy meets the budget, or the last readings are over it,
    no graph is written.
    """

    record_type = Quantization
    page = "wb.compress.quantize.report:page"

    def __init__(
        self, record: Quantization, out: Path, progress: Progress, source: Source, *, force: bool = False
    ) -> None:
        super().__init__(record, out, progress, force=force)
        self.source = source

    def make(self) -> None:
        """Quantizes, reads both graphs, and checks the budget."""
        with self.timed("quantizing"):
            choice, reasons = self._quantize()
        with self.timed("readings"):
            changes = self._conclude()
            notes = check_budget(self.record.limits, self.record.model_copy(update=changes))
            changes |= self._tested(changes)
        changes |= {"groups": self.source.groups(choice, reasons), "loose": loose(self.source.subject.graph)}
        changes["graph"] = self.out.name
        if self._staged.with_suffix(".safetensors").exists():
            changes["model"] = self.out.with_suffix(".safetensors").name
        said = (*few_inputs(self.record), *notes, *self._acausal(choice))
        self.note(**changes, notes=(*self.record.notes, *said))

    def files(self) -> Mapping[str, Path]:
        """The graph, and the model file if there is one."""
        graph = {self._staged.name: self.out}
        if self.record.model is None:
            return graph
        return {self._staged.with_suffix(".safetensors").name: self.out.parent / self.record.model, **graph}

    def obsolete(self) -> Sequence[Path]:
        """The model file of an earlier policy, because it would not describe the new graph."""
        model = self.out.with_suffix(".safetensors")
        return [model] if self.record.model is None and _left_by_us(model) else []

    def continues(self, error: BaseException) -> bool:
        """Only after an interruption from outside; a quantization that failed by itself would fail again."""
        return self.record.begun and isinstance(error, KeyboardInterrupt | SystemExit | OSError)

    @property
    def config(self) -> QuantizeConfig:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """The device that runs and times graphs."""
        return parse_device(self.config.device, threads=self.config.threads)

    @cached_property
    def assess(self) -> Assessor:
        """The assessor that reads graphs."""
        return Assessor(self.device, seed=self.config.seed)

    def uniform(self, precision: Precision) -> tuple[Choice, Mapping[str, str]]:
        """`precision` for every group that can have it; in a foreign graph, for every group that the runtime then still runs."""
        choice: Choice = self.source.uniform(precision, convolutions=False)
        bad = refused(list(choice), lambda some: self._runs(dict.fromkeys(some, precision)))
        reasons = self.source.uniform_reasons(precision) | dict.fromkeys(bad, REFUSED)
        return {group: p for group, p in choice.items() if group not in bad}, reasons

    @property
    def _staged(self) -> Path:
        """The file in `work` where the result waits to be published."""
        return self.work / "result.onnx"

    def _quantize(self) -> tuple[Choice, Mapping[str, str]]:
        """Writes the quantized graph; returns the precision of each quantized group, and reasons for groups in floating point."""
        self.progress(f"quantizing, {self.config.policy}", 0, 0)
        match self.config.policy:
            case "int8":
                return self._static()
            case "int8-dynamic":
                choice, reasons = self.uniform("int8")
            case "int4-weights":
                choice, reasons = self.uniform("int4")
            case "mixed":
                choice, reasons = self._mixed()
        if not choice:
            why = "; ".join(dict.fromkeys(KEPT if group in self.source.kept else why for group, why in reasons.items()))
            raise BadOption(
                f"--policy {self.config.policy} leaves every group in floating point ({why}); try --policy int8"
            )
        architecture = self.source.write(choice, self._step(choice), self._staged)
        self.note(architecture=architecture)
        return choice, reasons

    def _runs(self, choice: Choice) -> bool:
        """Whether the runtime runs the graph with that choice; for a model of the workbench, export checks it."""
        subject = self.source.subject
        if subject.model is not None:
            return True
        batch = calibration.batch_of(subject.graph)
        inputs = self.source.inputs or calibration.made_up(subject.graph, batch, self.config.seed)
        try:
            outputs(subject.lowered(choice), calibration.first(inputs, batch), self.device)
        except (BadArtefact, Unsupported):
            return False
        return True

    def _static(self) -> tuple[Choice, Mapping[str, str]]:
        """Static quantization. No architecture describes its graph fully: a model file has no activation ranges."""
        source, inputs = self.source, self._typical()
        if source.subject.every:  # what NNCF makes, OpenVINO was seen to compute with a third of the outputs wrong
            static = static_products(source.subject, inputs, source.kept)
        elif source.subject.maps:
            if self.record.slow is None:  # another measurement might say otherwise, so that it is made once
                self.note(slow=slow_in_8_bits(source.subject, inputs, self.device, source.kept))
            static = without(source.subject, inputs, source.kept, self.record.slow or ())
        else:
            static = static_int8(source.subject, inputs, source.kept)
        choice: Choice = dict.fromkeys(static.groups, "int8")
        architecture = self.source.write_graph(static.graph, choice, self._step(choice), self._staged)
        self.note(architecture=architecture)
        return choice, static.reasons

    def _mixed(self) -> tuple[Choice, Mapping[str, str]]:
        def note_one(one: Sensitivity) -> None:
            self.note(sensitivities=(*self.record.sensitivities, one))

        search = Mixed(self.source, self.record, self._typical(), self.assess, self._step, note_one, self.progress)
        found = search()
        self.note(candidates=candidates(found))
        return found.choice, found.reasons

    def _typical(self) -> calibration.Inputs:
        if self.source.inputs is None:
            raise BadOption(f"--policy {self.config.policy} has to see inputs; give --calibration")
        return self.source.inputs

    def _step(self, choice: Choice) -> Step:
        """The history step of the quantization."""
        counts = Counter(choice.get(group, "fp32") for group in self.source.subject.groups)
        how: str | None = {"int8": "static", "int8-dynamic": "dynamic"}.get(self.config.policy)
        arguments = {
            "policy": self.config.policy,
            **({"activations": how} if how else {}),
            "groups": dict(sorted(counts.items())),
            **({"calibration": dict(self.record.calibration)} if self.record.calibration else {}),
            **({"budget": list(self.record.limits)} if self.record.limits else {}),
        }
        return Step.model_validate(
            {"name": "quantize", "arguments": arguments, "seed": self.config.seed, "version": __version__}
        )

    def _conclude(self) -> dict[str, object]:
        """Reads both graphs together, without the test split."""
        self.progress("final readings", 0, 0)
        data = self.source.data
        splits = {} if data is None else {self.record.quality: data.validation}
        found: dict[str, dict[str, Reading]] = {}
        with self.source.float_file() as path:
            paths = {"float": path, "quantized": self._staged}
            latencies = self.assess.runs(paths, continues=self.source.subject.continues)
            for name, architecture in (("float", self.source.architecture), ("quantized", self.record.architecture)):
                self.progress(f"final readings, {name}", 0, 0)
                found[name] = self.assess.file(paths[name], architecture, splits) | readings_of(latencies[name])
            error = self._error(paths)
        before, after = (latencies[name] for name in ("float", "quantized"))
        ratios = {metric: ratio(after[metric].ratio, before[metric].ratio) for metric in before}
        usual = ratios.pop(usual_latency(ratios))
        return {
            "floating": found["float"],
            "quantized": found["quantized"],
            "ratio": usual,
            "ratios": ratios,
            "error": error,
        }

    def _tested(self, changes: Mapping[str, object]) -> dict[str, object]:
        """The readings of both graphs with the test split, which is read only after the budget is decided."""
        if self.source.data is None:
            return {}
        self.progress("final readings, test split", 0, 0)
        splits, task = {"test": self.source.data.test}, task_of(self.source.architecture)
        with self.source.float_file() as path:
            found = {
                "floating": self.assess.scores(path, splits, task),
                "quantized": self.assess.scores(self._staged, splits, task),
            }
        return {name: {**cast(Mapping[str, Reading], changes[name]), "test": r["test"]} for name, r in found.items()}

    def _acausal(self, choice: Choice) -> Sequence[str]:
        """A note, with figures, that a graph with dynamic ranges is not the same function token by token."""
        data = self.source.data
        if data is None or not self.source.subject.continues or "int8" not in choice.values():
            return ()
        self.progress("final readings, token by token", 0, 0)
        some = data.validation.take(np.arange(min(STEPPED, len(data.validation))))
        whole, stepped = (nats(self._staged, some, self.device, steps=steps) for steps in (False, True))
        return (
            "8-bit activations have one range for all tokens of a run, so that tokens change the scores of those before them: "
            f"{whole:.4f} nat a token where passages are read at once, as here, and {stepped:.4f} token by token (measured on "
            f"{len(some)} passages of validation).",
        )

    def _error(self, paths: Mapping[str, Path]) -> OutputError:
        """The output error, on inputs that nothing was fitted to where possible.

        In order of preference: validation images, inputs kept out, the user's inputs, random inputs. A single calibration input
        cannot be kept out, so the error is then read on it.
        """
        graph, data = self.source.subject.graph, self.source.data
        if data is not None:
            on = "validation images" if data.train.noun == "images" else f"validation {data.train.noun}"
            inputs = calibration.of_images(graph, data.validation, READ, self.config.seed)
        elif self.source.fresh is not None:
            on, inputs = "inputs kept out", self.source.fresh
        elif self.source.inputs is not None:
            fitted = self.config.policy in FITTED
            on, inputs = "calibration inputs" if fitted else "given inputs", self.source.inputs
        else:
            on, inputs = "random inputs", calibration.made_up(graph, self.config.calib, self.config.seed)
        before, after = (outputs(paths[name], inputs, self.device) for name in ("float", "quantized"))
        error = compare(before, after, tokens=self.source.subject.continues)
        return OutputError.model_validate(
            {
                "divergence": error.divergence,
                "kind": error.kind,
                "sqnr": error.sqnr if math.isfinite(error.sqnr) else None,
                "agreement": error.agreement,
                "n": len(before),
                "on": on,
            }
        )


def _left_by_us(path: Path) -> bool:
    """Whether an earlier quantization wrote this model file."""
    try:
        return any(step.name == "quantize" for step in load(path).history[-1:])
    except BadArtefact:
        return False
