"""The `mixed` policy in the job: measures sensitivities, then searches the policy that keeps the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from wb.compress.ptq.calibration import Inputs
from wb.compress.ptq.mixed import Found, find
from wb.compress.ptq.sensitivity import Sensitivity, sensitivities
from wb.compress.ptq.subject import Choice
from wb.compress.quantize.record import Candidate, Quantization
from wb.compress.quantize.source import Source, sign
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption, BudgetMissed
from wb.core.measures.readings import Reading, ratio
from wb.core.system.files import scratch
from wb.export.assess import Assessor
from wb.export.foreign.opening import file_size
from wb.models.model import Step
from wb.tasks.known import task_of

QUICK_S = 3.0  # seconds of timing for each candidate


@dataclass(frozen=True)
class Mixed:
    """One search for a mixed policy; `step` makes the history step of a choice, `found` is called with every sensitivity."""

    source: Source
    record: Quantization
    inputs: Inputs
    assess: Assessor
    step: Callable[[Choice], Step]
    found: Callable[[Sensitivity], None]
    progress: Progress

    def __call__(self) -> Found:
        """The policy that keeps the budget, with all trials.

        Raises:
            BadOption: the float graph keeps it already, or nothing can be quantized.
            BudgetMissed: no policy was found that keeps it.
        """
        limits = [limit.against(self.record.first[limit.metric.name]) for limit in self.record.limits.values()]
        measured = sensitivities(
            self.source.subject,
            self.inputs,
            self.assess.device,
            known=self.record.sensitivities,
            timed=self._timed,
            keep=self.source.kept,
            found=self.found,
            report=self.progress,
        )
        subject, first = self.source.subject, self.record.first
        try:
            return find(subject, measured, limits, first, self._assess, self.progress, keep=self.source.kept)
        except (BadOption, BudgetMissed) as error:
            raise type(error)(f"budget {', '.join(self.record.limits)}: {error}") from error

    @property
    def _timed(self) -> bool:
        return any(limit.metric.name == "latency" for limit in self.record.limits.values())

    def _assess(self, graph: onnx.ModelProto) -> Mapping[str, Reading]:
        """Readings of a candidate as it would be written; its latency is the first float latency times their measured ratio."""
        worst: Choice = self.source.uniform("int8")  # the longest metadata, which do not list groups in fp32
        model = None if self.source.subject.model is None else self.source.quantized(worst, self.step(worst))
        sign(graph, model, self.step(worst), self.source.images)
        data = self.source.data
        with scratch() as folder, self.source.float_file() as floating:
            path = folder / "candidate.onnx"
            onnx.save(graph, path)
            splits = {} if data is None else {self.record.quality: data.validation}
            found = {"size": file_size(path)} | self.assess.scores(path, splits, task_of(self.source.architecture))
            if self._timed:
                timed = self.assess.timed({"float": floating, "candidate": path}, cap_s=QUICK_S)
                found["latency"] = scaled_by(
                    ratio(timed["candidate"].ratio, timed["float"].ratio), self.record.first["latency"]
                )
        return found


def scaled_by(ratio: Reading, given: Reading) -> Reading:
    """`given` times a ratio, with the ratio's interval: comparable with other ratios to the same graph."""
    low, high = ratio.interval or (ratio.value, ratio.value)
    interval = (given.value * low, given.value * high)
    return given.model_copy(update={"value": given.value * ratio.value, "interval": interval, "n": ratio.n})


def candidates(found: Found) -> tuple[Candidate, ...]:
    """The trials as candidates of the record."""
    return tuple(
        Candidate(choice=dict(trial.choice), readings=dict(trial.readings), chosen=trial is found.chosen)
        for trial in found.trials
    )
