"""`wb quantize` from start to end: a policy, the graph, its readings beside the float one's, the verdict on the budget.

Sensitivities, which take long, are kept in a folder beside the output as they are measured, so that the same command
continues what was interrupted; the last thing is to write the results to their places.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch

from wb import __version__
from wb.compress.ptq import calibration
from wb.compress.ptq.holdout import READ
from wb.compress.ptq.outputs import compare, outputs
from wb.compress.ptq.refused import refused
from wb.compress.ptq.sensitivity import Sensitivity
from wb.compress.ptq.static import static_int8
from wb.compress.ptq.subject import Choice
from wb.compress.quantize.budgeted import Mixed, candidates
from wb.compress.quantize.record import FITTED, Config, OutputError, Record
from wb.compress.quantize.report import write_report
from wb.compress.quantize.source import KEPT, REFUSED, Source
from wb.compress.quantize.verdict import check_budget, few_inputs
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.files import place
from wb.core.readings import Reading, ratio
from wb.core.records import Precision
from wb.export.assess import Assessor
from wb.export.lowering.products import loose
from wb.hardware.device import Device, parse_device
from wb.jobs.job import Recorded
from wb.jobs.work import locked
from wb.models.model import Step, load

Report = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass
class Job(Recorded[Record]):
    """One quantization with everything it needs; calling it does what is not done yet and gives the finished record.

    `out` is the graph to write; beside it come the model file, record and report and, while it lasts, the folder of what is
    done. `report` hears what is being done.
    """

    record: Record
    source: Source
    out: Path
    report: Report
    force: bool = False

    def __call__(self) -> Record:
        """Quantizes.

        Raises:
            BadArtefact: something else lies in the folder beside the output; a graph that does not run.
            BadOption: another process is at it, or a file is in the way.
            BudgetMissed: a budget that nothing meets, or that the last readings are over; nothing is left then.
            StorageFailed: something could not be written; what is done stays.
            Unsupported: a quantizer cannot take the graph.
        """
        torch.set_num_threads(self.config.threads)
        abandon = self._open()
        with locked(self.work):
            self._note()
            try:
                if not self.record.finished:
                    self._make()
            except BaseException as error:
                interrupted = isinstance(error, KeyboardInterrupt | SystemExit | OSError)
                if not (interrupted and self.record.sensitivities):  # there is nothing to continue
                    abandon()
                raise
            self._publish()
        return self.record

    @property
    def config(self) -> Config:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """Where graphs run and are timed."""
        return parse_device(self.config.device, threads=self.config.threads)

    @cached_property
    def assess(self) -> Assessor:
        """Reads graphs."""
        return Assessor(self.device, seed=self.config.seed)

    def uniform(self, precision: Precision) -> tuple[Choice, Mapping[str, str]]:
        """Every group in `precision` that can be and, of a foreign graph, that the runtime runs then."""
        choice: Choice = self.source.uniform(precision, convolutions=False)
        bad = refused(list(choice), lambda some: self._runs(dict.fromkeys(some, precision)))
        reasons = self.source.uniform_reasons(precision) | dict.fromkeys(bad, REFUSED)
        return {group: p for group, p in choice.items() if group not in bad}, reasons

    @property
    def _staged(self) -> Path:
        """Where the result waits to be published."""
        return self.work / "result.onnx"

    # ------------------------------------------------------------------------------------------------------ policies

    def _make(self) -> None:
        """Everything up to the result, which lies in the folder then; the record last."""
        with self._timed("quantizing"):
            choice, reasons = self._quantize()
        with self._timed("readings"):
            changes = self._conclude()
            notes = check_budget(self.config.limits, self.record.model_copy(update=changes))
            changes |= self._tested(changes)
        changes |= {"groups": self.source.groups(choice, reasons), "loose": loose(self.source.subject.graph)}
        changes["graph"] = self.out.name
        if self._staged.with_suffix(".safetensors").exists():
            changes["model"] = self.out.with_suffix(".safetensors").name
        self._note(**changes, notes=(*self.record.notes, *few_inputs(self.record), *notes))

    def _quantize(self) -> tuple[Choice, Mapping[str, str]]:
        """Writes the quantized graph; gives what each group is kept in, and reasons for those in floating point."""
        self.report(f"quantizing, {self.config.policy}", 0, 0)
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
        self._note(architecture=architecture)
        return choice, reasons

    def _runs(self, choice: Choice) -> bool:
        """Whether the runtime takes the graph like that; of a model of ours, the export says so."""
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
        """NNCF's graph, which no architecture describes wholly: ranges of activations belong to no model file."""
        static = static_int8(self.source.subject, self._typical(), self.source.kept)
        choice: Choice = dict.fromkeys(static.groups, "int8")
        architecture = self.source.write_graph(static.graph, choice, self._step(choice), self._staged)
        self._note(architecture=architecture)
        return choice, static.reasons

    def _mixed(self) -> tuple[Choice, Mapping[str, str]]:
        def heard(one: Sensitivity) -> None:
            self._note(sensitivities=(*self.record.sensitivities, one))

        search = Mixed(self.source, self.record, self._typical(), self.assess, self._step, heard, self.report)
        found = search()
        self._note(candidates=candidates(found))
        return found.choice, found.reasons

    def _typical(self) -> calibration.Inputs:
        if self.source.inputs is None:
            raise BadOption(f"--policy {self.config.policy} has to see inputs; give --calibration")
        return self.source.inputs

    def _step(self, choice: Choice) -> Step:
        """The line of history."""
        counts = Counter(choice.get(group, "fp32") for group in self.source.subject.groups)
        how: str | None = {"int8": "static", "int8-dynamic": "dynamic"}.get(self.config.policy)
        arguments = {
            "policy": self.config.policy,
            **({"activations": how} if how else {}),
            "groups": dict(sorted(counts.items())),
            **({"calibration": dict(self.record.calibration)} if self.record.calibration else {}),
            **({"budget": list(self.config.limits)} if self.config.limits else {}),
        }
        return Step.model_validate(
            {"name": "quantize", "arguments": arguments, "seed": self.config.seed, "version": __version__}
        )

    # ---------------------------------------------------------------------------------------------------------- end

    def _conclude(self) -> dict[str, object]:
        """Reads both graphs together, but for the test split."""
        self.report("final readings", 0, 0)
        data = self.source.data
        splits = {} if data is None else {"acc": data.validation}
        found: dict[str, dict[str, Reading]] = {}
        with self.source.float_file() as path:
            paths = {"float": path, "quantized": self._staged}
            latencies = self.assess.timed(paths)
            for name, architecture in (("float", self.source.architecture), ("quantized", self.record.architecture)):
                self.report(f"final readings, {name}", 0, 0)
                found[name] = self.assess.file(paths[name], architecture, splits)
                found[name]["latency"] = latencies[name].reading
            error = self._error(paths)
        return {
            "floating": found["float"],
            "quantized": found["quantized"],
            "ratio": ratio(latencies["quantized"].ratio, latencies["float"].ratio),
            "error": error,
        }

    def _tested(self, changes: Mapping[str, object]) -> dict[str, object]:
        """The readings of both graphs with the test split's, which is read once the budget is decided."""
        if self.source.data is None:
            return {}
        self.report("final readings, test split", 0, 0)
        splits = {"test": self.source.data.test}
        with self.source.float_file() as path:
            found = {
                "floating": self.assess.file(path, None, splits),
                "quantized": self.assess.file(self._staged, None, splits),
            }
        return {name: {**cast(Mapping[str, Reading], changes[name]), "test": r["test"]} for name, r in found.items()}

    def _error(self, paths: Mapping[str, Path]) -> OutputError:
        """Of outputs on what nothing was fitted to: validation images, inputs kept out, the user's, else random ones.

        Where there is one calibration input only, it is read on that.
        """
        graph, data = self.source.subject.graph, self.source.data
        if data is not None:
            on, inputs = "validation images", calibration.of_images(graph, data.validation, READ, self.config.seed)
        elif self.source.fresh is not None:
            on, inputs = "inputs kept out", self.source.fresh
        elif self.source.inputs is not None:
            fitted = self.config.policy in FITTED
            on, inputs = "calibration inputs" if fitted else "given inputs", self.source.inputs
        else:
            on, inputs = "random inputs", calibration.made_up(graph, self.config.calib, self.config.seed)
        before, after = (outputs(paths[name], inputs, self.device) for name in ("float", "quantized"))
        error = compare(before, after)
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

    def _publish(self) -> None:
        """Puts graph, model, record and report in their places; the folder goes last, in one step."""
        place(self._staged, self.out, force=self.force)
        model = self.out.with_suffix(".safetensors")
        if self.record.model is None and self.force and _left_by_us(model):
            model.unlink()  # of an earlier policy: it would not describe the new graph
        if self.record.model is not None:
            place(self._staged.with_suffix(".safetensors"), self.out.parent / self.record.model, force=self.force)
        self._close(write_report)


def _left_by_us(path: Path) -> bool:
    """Whether an earlier quantization wrote this model file."""
    try:
        return any(step.name == "quantize" for step in load(path).history[-1:])
    except BadArtefact:
        return False
