"""Graphs on a device elsewhere run on examples: outputs are those of here, each once, and none is guessed."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import signal
from typing import Any

import numpy as np
import pytest

from wb.core.errors import BadArtefact
from wb.export.timing.bench import There
from wb.export.timing.reference import overhead_graph, transformer_graph
from wb.hardware.device import Device, parse_device, session
from wb.hardware.remote import examples
from wb.hardware.remote import link as links
from wb.hardware.remote.address import link_to
from wb.hardware.remote.link import DeviceLost
from wb.hardware.remote.runner import Runner
from wb.hardware.remote.session import Remote

GRAPH = transformer_graph(4, 8, 1)
FEEDS = [{"x": np.random.default_rng(n).random((2, 4, 8), dtype=np.float32)} for n in range(5)]
SHA = hashlib.sha256(GRAPH).hexdigest()


@pytest.fixture(scope="module")
def device() -> Device:
    return parse_device("local")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The operations that are asked for, and how many bytes come with each."""
    found: list[tuple[str, int]] = []
    ask = links.Link.ask

    def counted(link: links.Link, op: str, raw: bytes = b"", seconds: float = 120.0, **fields: Any) -> dict[str, Any]:
        found.append((op, len(raw)))
        return ask(link, op, raw, seconds, **fields)

    monkeypatch.setattr(links.Link, "ask", counted)
    return found


def each(remote: Remote, together: int = 2) -> list[Any]:
    """The outputs of all feeds."""
    return [given for (given,) in remote.each([remote.get_outputs()[0].name], FEEDS, together)]


def here() -> list[Any]:
    """The same of this machine."""
    return [session(GRAPH, Device()).run(None, feed)[0] for feed in FEEDS]


def test_outputs_are_those_of_here_and_a_block_is_sent_once(device: Device, asked: list[tuple[str, int]]) -> None:
    for together in (1, 2, 9):
        np.testing.assert_allclose(each(Remote(GRAPH, "it", device), together), here(), atol=1e-6)
    asked.clear()
    np.testing.assert_allclose(each(Remote(GRAPH, "it", device)), here(), atol=1e-6)
    # What was there stays there, for other graphs too.
    assert [size for op, size in asked if op == "outputs"] == [0, 0, 0]


def test_a_runner_that_is_killed_between_blocks_costs_one_block(
    device: Device, asked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "PAUSES_S", (0.0,))
    remote = Remote(GRAPH, "it", device)
    given = remote.each([remote.get_outputs()[0].name], FEEDS, 2)
    found = [next(given)[0], next(given)[0]]
    process = link_to("local")._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    asked.clear()
    found += [one for (one,) in given]
    np.testing.assert_allclose(found, here(), atol=1e-6)
    # The block under way is asked for again, and sent to a runner that has none; the first one is not.
    assert len([op for op, _ in asked if op == "outputs"]) == 5


def test_a_device_that_stays_away_gives_no_outputs(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PAUSES_S", (0.0,))
    remote, link = Remote(GRAPH, "it", device), link_to("local")
    assert link._process is not None
    monkeypatch.setattr(link, "_argv", ["no-such-command"])
    os.kill(link._process.pid, signal.SIGKILL)
    with pytest.raises(DeviceLost, match="local"):
        each(remote)


@pytest.mark.parametrize(
    "answer", [{"bytes": 3, "part": "AAAA"}, {"bytes": 9, "part": "?"}, {"bytes": -1}, {"missing": True}, {"part": 3}]
)
def test_nonsense_is_no_output(device: Device, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "PAUSES_S", (0.0,))
    remote = Remote(GRAPH, "it", device)
    ask = links.Link.ask
    monkeypatch.setattr(
        links.Link,
        "ask",
        lambda link, op, *rest, **fields: answer if op == "outputs" else ask(link, op, *rest, **fields),
    )
    with pytest.raises(DeviceLost, match="nonsense"):
        each(remote)


@pytest.mark.parametrize("failing", ["have", "put", "outputs"])
def test_a_device_without_memory_is_no_fault_of_the_graph(
    device: Device, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "PAUSES_S", (0.0,))
    ask = links.Link.ask

    def full(link: links.Link, op: str, *rest: Any, **fields: Any) -> dict[str, Any]:
        if op == failing:
            raise links.Refused("no room", "MemoryError")
        return {"missing": [SHA]} if op == "have" else ask(link, op, *rest, **fields)

    monkeypatch.setattr(links.Link, "ask", full)
    with pytest.raises(DeviceLost, match="no room"):
        each(Remote(GRAPH, "it", device))


def test_timing_and_scoring_take_turns(device: Device) -> None:
    bench, remote = There({"a": overhead_graph()}, device, 1, 0), Remote(GRAPH, "it", device)
    for _ in range(2):
        assert len(bench.run(["a"])) == 3
        np.testing.assert_allclose(each(remote), here(), atol=1e-6)


def test_what_it_cannot_load_or_run_is_the_graphs_fault(device: Device) -> None:
    with pytest.raises(BadArtefact, match="it is not an ONNX graph"):
        Remote(b"nonsense", "it", device)
    with pytest.raises(BadArtefact, match=r"it fails on local on its inputs x \[2, 5, 8\]"):
        Remote(GRAPH, "it", device).run(None, {"x": np.zeros((2, 5, 8), np.float32)})


def block() -> bytes:
    """All feeds as they are sent."""
    buffer = io.BytesIO()
    named = {f"{n}/x": feed["x"] for n, feed in enumerate(FEEDS)}
    np.savez(buffer, **named)  # type: ignore[arg-type]  # names, not options
    return buffer.getvalue()


def test_outputs_come_in_parts_and_what_has_no_room_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "scored", examples.Scored())
    monkeypatch.setattr(examples, "PART", 100)
    one, raw = Runner(), block()
    one.learned["examples"] = examples
    one.answer({"op": "put", "sha": SHA}, GRAPH)
    opened = one.answer({"op": "open", "sha": SHA, "name": "a", "threads": 1, "provider": "CPUExecutionProvider"}, b"")
    asking = {"op": "outputs", "sha": hashlib.sha256(raw).hexdigest(), "outputs": opened["outputs"]}
    assert one.answer(asking, b"") == {"missing": True}
    with pytest.raises(OSError, match="not those that were sent"):
        one.answer(asking, raw + b"x")
    examples.scored.room = len(raw) - 1
    given = one.answer(asking, raw)
    assert one.answer(asking, b"") == {"missing": True}
    examples.scored.room = len(raw)
    assert one.answer(asking, raw) == one.answer(asking, b"") == given
    content = base64.b64decode(given["part"])
    while len(content) < given["bytes"]:
        assert len(content) % 100 == 0
        content += base64.b64decode(one.answer({"op": "rest", "start": len(content)}, b"")["part"])
    with np.load(io.BytesIO(content)) as stored:
        np.testing.assert_allclose([stored[f"{n}/{opened['outputs'][0]}"] for n in range(5)], here(), atol=1e-6)
