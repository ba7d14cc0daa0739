"""`wb exits` as a user runs it, on one tiny network of the digits: shown, measured, exported, asked; and refused elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import succeeded, wb
from tests.networks import of_digits, random_model
from wb.compress.exits import heads
from wb.compress.exits.record import EarlyExits
from wb.models.exits.files import load_exiting
from wb.models.model import save


@pytest.mark.usefixtures("page")
def test_exits_are_added_told_measured_and_set_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "STEPS", 4)
    for module in ("gates", "config"):
        monkeypatch.setattr(f"wb.compress.exits.{module}.LADDER", (0.0, 0.5))
    monkeypatch.setattr("wb.export.exits.stream.PRECISION", 1e9)
    given, out = tmp_path / "a.safetensors", tmp_path / "e.safetensors"
    save(random_model(of_digits(), gain=1.0), given)
    data = ("--data", "digits", "--limit", 60)
    result = succeeded("exits", given, "-o", out, *data, "--after", "s0.b0", "--beta", 0.2)
    record = EarlyExits.read(tmp_path / "e.json")
    assert (record.beta, [rung.beta for rung in record.rungs]) == (0.2, [0.0, 0.2, 0.5, None])
    assert result.stdout.splitlines()[-1] == f"wrote {out}"
    assert "of the mean latency" in result.stdout
    page = (tmp_path / "e.html").read_text(encoding="utf-8")
    assert "Early exits of" in page
    again = tmp_path / "again.html"
    succeeded("report", tmp_path / "e.json", "-o", again)
    assert again.read_text(encoding="utf-8") == page
    for name in ("e.safetensors", "e.onnx"):
        assert "early exits, beta 0.2: after s0.b0 (" in succeeded("show", tmp_path / name).stdout
    assert json.loads(succeeded("show", out, "--json").stdout)["exits"]["after"] == ["s0.b0"]
    read = json.loads(succeeded("measure", tmp_path / "e.onnx", *data[:2], "--cap", 0.1, "--json").stdout)
    assert {"latency", "latency, expected", "share, left after s0.b0", "latency, to the end"} <= read.keys()
    assert read["share, left after s0.b0"]["value"] == pytest.approx(record.chosen.leaving[0])
    assert "takes an example a run" in wb("measure", tmp_path / "e.onnx", "--batch", 2).stderr.replace("\n", " ")
    succeeded("export", out, "-o", tmp_path / "x.onnx")
    assert (tmp_path / "x.onnx").read_bytes() == (tmp_path / "e.onnx").read_bytes()
    succeeded("exits", out, "-o", tmp_path / "f.safetensors", *data, "--beta", 0)
    assert load_exiting(tmp_path / "f.safetensors").record.beta == 0.0
    for command in (
        ("prune", "nvit", out, "--budget", "macs=0.5x"),
        ("quantize", tmp_path / "e.onnx"),
        ("convert", out),
    ):
        refused = wb(*command, "--mixer", "pool") if command[0] == "convert" else wb(*command)
        assert refused.exit_code == 1, command
        assert "has early exits" in " ".join(refused.stderr.split())
