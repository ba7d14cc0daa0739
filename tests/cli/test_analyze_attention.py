"""`wb train --keep-checkpoints` and `wb analyze attention` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import succeeded, wb
from tests.networks import of_digits


@pytest.mark.usefixtures("page")
def test_a_training_keeps_its_checkpoints_and_their_attention_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(of_digits(embed=8, depth=1, width=4, mlp=8).to_json())
    how = ("--data", "digits", "--limit", 100, "--epochs", 2, "--architecture", tmp_path / "a.json")
    succeeded("train", *how, "-o", tmp_path / "a.safetensors", "--keep-checkpoints")
    kept = tmp_path / "a.epochs"
    assert sorted(path.name for path in kept.iterdir()) == ["0000.safetensors", "0001.safetensors", "0002.safetensors"]
    succeeded("train", *how, "-o", tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes(), (
        "nothing else changes"
    )
    out = succeeded("analyze", "attention", kept, "--limit", 8, "-o", tmp_path / "p.html", "--json").stdout
    found = json.loads(out)
    assert found["epochs"] == [0, 1, 2]
    assert {head["frozen"] for head in found["heads"]} <= {0, 1, 2}
    assert "In training" in (tmp_path / "p.html").read_text(encoding="utf-8")
    table = succeeded(
        "analyze", "attention", tmp_path / "a.safetensors", "--limit", 8, "-o", tmp_path / "q.html"
    ).stdout
    assert "s0.b0.mixer" in table
    assert "In training" not in (tmp_path / "q.html").read_text(encoding="utf-8")
    again = wb("train", *how, "-o", tmp_path / "a.safetensors", "--keep-checkpoints")
    assert "exists already" in again.stderr.replace("\n", " ")
    (tmp_path / "empty").mkdir()
    refused = wb("analyze", "attention", tmp_path / "empty", "-o", tmp_path / "r.html")
    assert "has no models of epochs" in " ".join(refused.stderr.split())
