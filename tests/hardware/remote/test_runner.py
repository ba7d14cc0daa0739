"""The runner answers what it is asked, within one process."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import numpy as np
import pytest

from wb.export.timing.reference import overhead_graph
from wb.hardware.remote import runner
from wb.hardware.remote.runner import PROTOCOL, REFERENCE, Runner, hello, processor, serve

GRAPH = overhead_graph()
SHA = hashlib.sha256(GRAPH).hexdigest()
OPTIONS = {"name": "a", "threads": 1, "provider": "CPUExecutionProvider", "cores": None}


def fed(value: float = 3.0) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.full((1, 1), value, np.float32))
    return buffer.getvalue()


def answers(*requests: tuple[dict[str, Any], bytes]) -> list[dict[str, Any]]:
    """All lines that are answered to these requests."""
    lines = b"".join(
        json.dumps({"id": i, "size": len(raw), **asked}).encode() + b"\n" + raw
        for i, (asked, raw) in enumerate(requests)
    )
    out = io.BytesIO()
    serve(io.BytesIO(lines), out)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert found[0] == {"ready": PROTOCOL}
    return [line for line in found[1:] if "beat" not in line]


def test_a_graph_is_sent_fed_and_timed_between_samples_of_the_reference() -> None:
    asked: list[tuple[dict[str, Any], bytes]] = [
        ({"op": "have", "shas": [SHA]}, b""),
        ({"op": "put", "sha": SHA}, GRAPH),
        ({"op": "have", "shas": [SHA]}, b""),
        ({"op": "load", "sha": SHA, **OPTIONS, "name": REFERENCE}, b""),
        ({"op": "load", "sha": SHA, **OPTIONS}, b""),
        ({"op": "feed", "name": REFERENCE}, fed()),
        ({"op": "feed", "name": "a"}, fed()),
        ({"op": "ready", "graphs": {REFERENCE: SHA, "a": SHA}, "sample_s": 0.0001}, b""),
        ({"op": "batch", "order": ["a", "a"]}, b""),
    ]
    missing, _, there, _, loaded, *_, ready, batch = answers(*asked)
    assert (missing["missing"], there["missing"]) == ([SHA], [])
    assert [spec["name"] for spec in loaded["inputs"]] == ["x"]
    assert ready["cost_s"].keys() == {REFERENCE, "a"}
    assert len(batch["samples"]) == 5
    assert all(wall > 0 for wall, _ in batch["samples"])


@pytest.mark.parametrize(
    ("asked", "raw", "words"),
    [
        ({"op": "put", "sha": "0" * 64}, GRAPH, "not those that were sent"),
        ({"op": "load", "sha": "none", **OPTIONS}, b"", "none"),
        ({"op": "dance"}, b"", "no operation 'dance'"),
        ({"op": "feed", "name": "a"}, b"nonsense", ""),
    ],
)
def test_errors_are_answers_and_the_next_request_is_heard(asked: dict[str, Any], raw: bytes, words: str) -> None:
    refused, after = answers((asked, raw), ({"op": "state"}, b""))
    assert words in refused["error"]
    assert refused["kind"]
    assert after["id"] == 1
    assert "throttled" in after


def test_only_graphs_that_are_ready_stay_in_memory() -> None:
    one = Runner()
    one.answer({"op": "put", "sha": SHA}, GRAPH)
    one.answer({"op": "put", "sha": hashlib.sha256(b"x").hexdigest()}, b"x")
    one.answer({"op": "load", "sha": SHA, **OPTIONS}, b"")
    one.answer({"op": "feed", "name": "a"}, fed())
    one.answer({"op": "ready", "graphs": {"a": SHA}, "sample_s": 0.0001}, b"")
    assert one.files.keys() == {SHA}


def test_hello_says_what_a_latency_depends_on() -> None:
    found = hello()
    assert {"processor", "onnxruntime", "cores", "providers", "clocks", "state"} <= found.keys()
    assert json.loads(json.dumps(found)) == found


def test_a_board_is_told_from_another_with_the_same_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """ARM kernels give a part number in the place of a model name."""
    cpuinfo = "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0b\n"
    names = set()
    for board in ("Raspberry Pi 5\0", "Orange Pi 5\0", ""):
        texts = {"/proc/device-tree/model": board, "/proc/cpuinfo": cpuinfo}
        monkeypatch.setattr(runner, "_text", lambda path, texts=texts: texts.get(path, ""))
        names.add(processor())
    assert len(names) == 3
    assert all("implementer 0x41 part 0xd0b" in name for name in names)
