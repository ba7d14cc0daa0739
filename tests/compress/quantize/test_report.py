"""The page of a quantization: what has to be on it, and that nothing from files is taken for HTML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wb.compress.ptq.sensitivity import Sensitivity
from wb.compress.quantize import figures
from wb.compress.quantize.job import QuantizeJob
from wb.compress.quantize.record import Candidate, Group, Quantization
from wb.compress.quantize.report import by_precision, changes, error_text, in_float, page, reasons
from wb.compress.quantize.verdict import calibrated, few_inputs
from wb.core.errors import BadArtefact
from wb.core.measures.readings import Reading
from wb.jobs.frame.page import write_page

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def record(record_of: Callable[..., Quantization]) -> Quantization:
    """With a group that has an evil name, as a foreign graph may bring one."""
    plain = record_of((0.5, 0.4, 0.6), policy="mixed", budget=("acc=-0.5", "size=0.9x"))

    def one(group: str, precision: str, error: float) -> Sensitivity:
        return Sensitivity.model_validate({"group": group, "precision": precision, "error": error, "saved": 3})

    readings = {name: plain.quantized[name] for name in ("acc", "size")}
    return plain.model_copy(
        update={
            "source": EVIL,
            "calibration": {"from": EVIL, "inputs": 7, "fingerprint": "0"},
            "sensitivities": (
                one("a", "int8", 1e-4),
                one(EVIL, "int8", 0.0),
                one("a", "int4", 0.1),
                one(EVIL, "int4", 2),
            ),
            "candidates": (Candidate(choice={"a": "int8"}, readings=readings, chosen=True),),
            "groups": (
                Group(name="a", precision="int8", weights=5000),
                Group(name=EVIL, precision="fp32", weights=2, reason="too sensitive"),
            ),
        }
    )


def test_the_page_shows_everything_and_runs_nothing(record: Quantization, tmp_path: Path) -> None:
    text = page(record, tmp_path, tmp_path)
    assert EVIL not in text
    for shown in ("Faster and smaller: 2.00 times as fast", "too sensitive", "5 k", "7 calibration inputs", "0.500x"):
        assert shown in text
    for name in ("sensitivity", "candidates"):
        assert f'id="figure-{name}"' in text
    assert 'href="q.onnx"' in text
    assert '<div class="notice">' not in text


def test_only_a_slower_one_has_its_verdict_as_a_warning(record_of: Callable[..., Quantization], tmp_path: Path) -> None:
    text = page(record_of((1.5, 1.4, 1.6)), tmp_path, tmp_path)
    assert '<div class="notice"><b>Smaller, but slower: takes 1.50 times as long' in text
    noted = record_of((0.5, 0.4, 0.6)).model_copy(update={"notes": ("over by noise",)})
    assert '<p class="note">over by noise</p>' in page(noted, tmp_path, tmp_path)


def test_dots_are_the_sensitivities_above_zero(record: Quantization) -> None:
    by_name = {trace.name.split()[0]: trace for trace in figures.sensitivity_figure(record).data}
    assert list(by_name["int8"].y) == [1e-4]
    assert list(by_name["int4"].y) == [0.1, 2]
    assert list(by_name["int8"].marker.symbol) == ["circle"]
    assert list(by_name["int4"].marker.symbol) == ["circle-open", "circle-open"]
    assert figures.sensitivity_figure(record).layout.yaxis.type == "log"


def test_candidates_are_points_with_the_budget(record: Quantization) -> None:
    figure = figures.candidates_figure(record)
    assert all(trace.error_y.array is not None for trace in figure.data)  # as the page says of its bars
    points = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert points == {"assessed": ([30], [0.9]), "chosen": ([30], [0.9]), "float": ([100], [0.9])}
    assert [shape.x0 or shape.y0 for shape in figure.layout.shapes] == pytest.approx([90, 0.895])


def test_summaries(record: Quantization) -> None:
    assert by_precision(record) == "1 int8, 1 fp32"
    assert reasons(record) == {"too sensitive": [EVIL]}
    assert changes(record) == {"acc": "+0.00 points", "size": "0.300x", "latency": "0.500x (0.400 to 0.600)"}
    assert error_text(record) == "20.0 dB SQNR, top-1 agreement 50.00 %, KL divergence 0.1, on 3 random inputs"
    assert record.error is not None
    equal = record.error.model_copy(update={"sqnr": None, "agreement": None})
    assert error_text(record.model_copy(update={"error": equal})).startswith("no difference, KL divergence")


def test_what_it_was_fitted_to_is_said(record: Quantization, tmp_path: Path) -> None:
    """Of records of before as well, which read the error on the calibration inputs."""
    assert record.error is not None

    def on(where: str, policy: str, **calibration: int) -> Quantization:
        changes = {
            "error": record.error and record.error.model_copy(update={"on": where, "n": 1}),
            "config": record.config.model_copy(update={"policy": policy}),
            "calibration": {"from": "c.npy", "fingerprint": "0", **calibration},
        }
        return record.model_copy(update=changes)

    fitted = on("calibration inputs", "int8", inputs=1)
    assert error_text(fitted).endswith(
        "on 1 calibration input, which it was fitted to: expect a larger error on others"
    )
    assert few_inputs(fitted)[0].startswith(
        "Ranges of activations come from 1 calibration input; with fewer than 32 they seldom hold"
    )
    assert (
        "chosen on 2 calibration inputs; with fewer than 32 it seldom holds" in few_inputs(on("", "mixed", inputs=2))[0]
    )
    assert error_text(on("calibration inputs", "int8-dynamic", inputs=1)).endswith("on 1 calibration input")
    kept_out = on("inputs kept out", "int8", inputs=96, kept_out=1)
    assert error_text(kept_out).endswith("on 1 input kept out of the calibration")
    assert calibrated(kept_out) == "96 of c.npy, 1 more kept out to read the error on"
    assert "Calibrated on 96 of c.npy, 1 more kept out" in page(kept_out, tmp_path, tmp_path)
    assert few_inputs(kept_out) == ()
    assert few_inputs(on("random inputs", "int8-dynamic", inputs=1)) == ()


def test_the_share_that_stays_in_floating_point(record: Quantization, tmp_path: Path) -> None:
    assert in_float(record) == "0.0 % of the products' weights stay in floating point"  # of before the rest was counted
    counted = record.model_copy(update={"loose": 4998})
    shares = (
        "50.0 % of the weights stay in floating point (0.0 % in products, 50.0 % in biases, norms, tables and the like)"
    )
    assert in_float(counted) == shares
    assert shares in page(counted, tmp_path, tmp_path)


def test_no_page_of_what_is_not_finished(record: Quantization, tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="not finished; continue it"):
        write_page(QuantizeJob, record.model_copy(update={"graph": None}), tmp_path / "q.json", tmp_path / "q.html")
    assert list(tmp_path.iterdir()) == []
    assert isinstance(record.ratio, Reading)
