"""Runs a graph on examples that are sent to the machine where it runs; it is sent there too, and needs numpy only.

Examples come in blocks, each a few runs of one graph, and are kept by the hash of their bytes: every graph that is scored on the
same examples has them there already. What there is no room for is sent each time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Mapping
from typing import Any

import numpy

PART = 8_000_000  # bytes of outputs in one answer
SHARE = 8  # of the memory, one part in so many may be blocks
MOST = 1 << 28  # bytes of blocks, however much memory there is


class Scored:
    """The graph that is scored, the blocks that stay here, and the outputs that are being fetched."""

    def __init__(self) -> None:
        self.session: Any = None
        self.blocks: dict[str, bytes] = {}
        self.given = b""
        self.room = MOST
        if hasattr(os, "sysconf"):
            self.room = min(MOST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // SHARE)

    def block(self, sha: str, raw: bytes) -> bytes:
        """The block of that hash: `raw`, which is kept if there is room, or what was kept; empty where there is none."""
        if not raw:
            return self.blocks.get(sha, b"")
        if hashlib.sha256(raw).hexdigest() != sha:
            raise OSError("the bytes that arrived are not those that were sent")  # as `put`: no fault of the graph
        if sum(map(len, self.blocks.values())) + len(raw) <= self.room:
            self.blocks[sha] = raw
        return raw


scored = Scored()


def on_open(runner: Any, request: Mapping[str, Any], _: bytes) -> dict[str, Any]:
    """Loads a graph for `on_outputs`, in the place of all that was ready for samples; says what it takes and gives."""
    runner.probes.clear()
    scored.session = runner.begun(request)
    runner.files = {request["sha"]: runner.files[request["sha"]]}
    return {
        "inputs": [{"name": i.name, "type": i.type, "shape": i.shape} for i in scored.session.get_inputs()],
        "outputs": [output.name for output in scored.session.get_outputs()],
    }


def on_outputs(_: Any, request: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
    """Some outputs of each run of a block, which comes along, or is known by its hash; or that it is missing."""
    block = scored.block(request["sha"], raw)
    if not block:
        return {"missing": True}
    runs: dict[str, dict[str, Any]] = {}
    with numpy.load(io.BytesIO(block), allow_pickle=False) as stored:
        for key in stored.files:
            number, _, name = key.partition("/")
            runs.setdefault(number, {})[name] = stored[key]
    names, found = request["outputs"], dict[str, Any]()
    for number, feed in runs.items():
        given = scored.session.run(names, feed)
        found |= {f"{number}/{name}": given[i] for i, name in enumerate(names)}
    buffer = io.BytesIO()
    numpy.savez(buffer, **found)
    scored.given = buffer.getvalue()
    return {"missing": False, "bytes": len(scored.given), **on_rest(None, {"start": 0}, b"")}


def on_rest(_: Any, request: Mapping[str, Any], __: bytes) -> dict[str, Any]:
    """The outputs from a byte on, in base64 of numpy's format."""
    start = request["start"]
    return {"part": base64.b64encode(scored.given[start : start + PART]).decode()}


OPERATIONS = {"on_open": on_open, "on_outputs": on_outputs, "on_rest": on_rest}
