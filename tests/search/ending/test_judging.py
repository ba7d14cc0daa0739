"""Timings of finalists are read back where the same networks were timed on the same device, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from tests.networks import hybrid
from wb.core.measures.readings import Reading
from wb.core.precision import precisions, with_precisions
from wb.data import load as load_data
from wb.hardware.device import Device
from wb.search.ending.judging import Costs, Judging, _Candidate
from wb.search.places import NOWHERE
from wb.tasks.classes import CLASSES

PACE = Reading(value=1.0, unit="ms", how="measured")


def test_the_same_networks_on_the_same_device_are_timed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[list[str]] = []

    def measured(_: Judging, candidates: Mapping[str, object]) -> Costs:
        timed.append([*candidates])
        return {name: {"latency": PACE.model_copy(update={"value": len(timed) + 0.1})} for name in candidates}

    monkeypatch.setattr(Judging, "_measured", measured)
    judging = Judging(
        data=load_data("digits", limit=20),
        task=CLASSES,
        device=Device(),
        pace=PACE,
        ways=(),
        places=NOWHERE,
        apart=(),
        seed=0,
        progress=lambda *_: None,
        alone=nullcontext,
        continues=False,
        retrain=True,
        kept=tmp_path / "judged" / "timings.json",
    )
    (tmp_path / "judged").mkdir()
    network = hybrid()
    one = _Candidate(network, tmp_path / "1.onnx", {}, "weights")
    first = judging._costs({"1": one, "2": one})
    assert judging._costs({"1": one, "2": one}) == first, "as it was written, to the last digit"
    assert len(timed) == 1
    low = with_precisions(network, {next(iter(precisions(network))): "int8"})
    others = (
        (judging, {"1": one}),
        (judging, {"1": one._replace(fingerprint="others"), "2": one}),
        (judging, {"1": one._replace(architecture=low), "2": one}),
        (replace(judging, device=Device(threads=2)), {"1": one, "2": one}),
        (replace(judging, apart=("memory",)), {"1": one, "2": one}),
        (replace(judging, kept=None), {"1": one, "2": one}),
    )
    for number, (other, candidates) in enumerate(others, start=2):
        judging._costs({"1": one, "2": one})
        before = len(timed)
        other._costs(candidates)
        assert len(timed) == before + 1, number
