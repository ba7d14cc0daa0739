from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wb.compress.quantize.config import QuantizeConfig
from wb.compress.quantize.record import Quantization
from wb.core.errors import BadArtefact, BadOption


@pytest.fixture
def record(record_of: Callable[..., Quantization]) -> Quantization:
    return record_of((0.5, 0.4, 0.6))


def test_what_is_written_is_read(record: Quantization, tmp_path: Path) -> None:
    record.write(tmp_path / "q.json")
    assert Quantization.read(tmp_path / "q.json") == record
    unfinished = record.model_copy(update={"graph": None, "groups": (), "ratio": None})
    unfinished.write(tmp_path / "q.json")
    assert not Quantization.read(tmp_path / "q.json").done


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"groups": []}, "has groups"),
        ({"ratio": None}, "ratio of latencies"),
        ({"error": None}, "output error"),
        ({"quantized": {}}, "no reading of size, latency"),
        ({"first": 1}, "first"),
        ({"kind": "fusion"}, "kind"),
        ({"more": 1}, "more"),
    ],
)
def test_a_record_that_lacks_what_is_shown_is_refused(
    record: Quantization, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "q.json"
    path.write_text(json.dumps(json.loads(record.model_dump_json()) | change))
    with pytest.raises(BadArtefact, match=words):
        Quantization.read(path)


def test_costs_and_ratios_are_positive(record: Quantization, tmp_path: Path) -> None:
    content = json.loads(record.model_dump_json())
    content["floating"]["size"]["value"] = 0
    path = tmp_path / "q.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BadArtefact, match="costs nothing"):
        Quantization.read(path)
    content = json.loads(record.model_dump_json())
    content["ratio"]["interval"] = [-1, 1]
    path.write_text(json.dumps(content))
    with pytest.raises(BadArtefact, match="not positive"):
        Quantization.read(path)
    with pytest.raises(BadArtefact, match="there is no file"):
        Quantization.read(tmp_path / "none.json")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadArtefact, match=r"cannot be read|damaged"):
        Quantization.read(path)


def test_mixed_aims_at_accuracy_unless_told_otherwise() -> None:
    (limit,) = QuantizeConfig(policy="mixed").limits("acc").values()
    assert limit.text() == "acc >= -0.5 points"
    assert list(QuantizeConfig(policy="mixed", budget=("size=0.3x , acc=-1",)).limits("acc")) == ["size=0.3x", "acc=-1"]
    assert not QuantizeConfig().limits("acc")
    for budget in ("macs=0.5x", "params=1M", "energy=0.5x"):
        with pytest.raises(BadOption, match="limit one of size, acc, ppl, latency"):
            _ = QuantizeConfig(budget=(budget,)).limits("acc")
