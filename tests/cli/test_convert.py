"""`wb convert` as a user runs it, on one tiny network of the digits and without a clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import files, succeeded, wb
from tests.networks import of_digits, random_model
from wb.compress.convert.record import Conversion
from wb.core.measures.readings import Reading
from wb.models.model import load, save

QUICK = ("--limit", 60, "--finetune", 1, "--steps", 2)


@pytest.mark.usefixtures("untimed", "page")
def test_a_model_is_converted_told_reported_and_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Reading(value=1.0, unit="ms", how="measured")
    monkeypatch.setattr("wb.jobs.frame.begin.reference_pace", lambda *_: pace)
    given, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save(random_model(of_digits(), gain=1.0), given)
    result = succeeded(
        "convert",
        given,
        "-o",
        out,
        "--data",
        "digits",
        "--mixer",
        "linear",
        "--layers",
        "s0.b1",
        "--norm",
        "repbn",
        *QUICK,
    )
    record = Conversion.read(tmp_path / "b.json")
    assert [stage.name for stage in record.stages] == ["mixers", "norms"]
    told = " ".join(result.stdout.split())
    assert record.stages[1].after["size"].text() in told
    assert result.stdout.splitlines()[-1] == f"wrote {out}"
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "Conversion of" in page
    assert f"{record.layers[0].missed:.3g}" in page
    assert "ReLU linear attention, re-parameterized batch norm" in page
    again = tmp_path / "again.html"
    succeeded("report", tmp_path / "b.json", "-o", again)
    assert again.read_text(encoding="utf-8") == page
    folded = tmp_path / "f.safetensors"
    succeeded("fold", "norms", out, "-o", folded)
    assert load(folded).history[-1].name == "fold norms"
    assert json.loads(succeeded("show", folded, "--json").stdout)
    refused = wb("convert", given, "-o", tmp_path / "c.pt")
    assert refused.exit_code == 2
    assert "there is nothing to convert" in " ".join(refused.stderr.split())
    assert not {"c.pt", "c.partial"} & files(tmp_path)
