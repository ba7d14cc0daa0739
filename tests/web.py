"""A stand-in for node with ONNX Runtime Web: speaks as its server does, with ONNX Runtime, or does as it is told."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wb.hardware.runtimes.web import web_session
from wb.hardware.runtimes.web.web_session import PACKAGE, VARIABLE

MODE = "WB_TEST_WEB"  # what it does wrong: nothing where it is not set
_NODE = """
import json, os, sys, time
import numpy, onnxruntime

mode, into, out = os.environ.get("WB_TEST_WEB"), sys.stdin.buffer, sys.stdout.buffer
if sys.argv[1:] == ["--version"]:
    print("v99.1" if mode != "mute" else "")
    sys.exit()
assert sys.argv[1:3] == ["--input-type=module", "-e"]
assert not [name for name in os.environ if name.startswith("NODE_")]
LACKS = "Could not find an implementation for MatMul(13) node with name ''"
sessions, fed, log = {}, {}, open(os.path.join(os.path.dirname(__file__), "asked"), "a", buffering=1)
KINDS = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(bool)": "bool"}

def described(found):
    return [{"name": one.name, "type": KINDS[one.type], "shape": one.shape} for one in found]

def work(request, raw):
    op, number = request["op"], request.get("number")
    print(op, number, len(raw), file=log)
    if op == "start" and mode == "broken":
        sys.exit("file:///x.js:1\\n\\nError: Cannot find module 'onnxruntime-web'\\n    at Module._load")
    if op == "start" and mode == "unable":
        raise ValueError("Cannot find module 'onnxruntime-common'")
    if op == "load":
        if mode == "lacks":
            raise ValueError("Can't create a session. ERROR_CODE: 9, ERROR_MESSAGE: " + LACKS)
        sessions[number] = onnxruntime.InferenceSession(request["file"] or raw, providers=["CPUExecutionProvider"])
        return {"inputs": described(sessions[number].get_inputs()), "outputs": described(sessions[number].get_outputs())}, b""
    if op == "feed":
        fed[number], start = {}, 0
        for one in request["inputs"]:
            part = raw[start : start + one["size"]]
            fed[number][one["name"]] = numpy.frombuffer(part, one["type"]).reshape(one["dims"])
            start += one["size"]
    if op == "run":
        if mode == "dies":
            sys.exit("Fatal process out of memory")
        if mode == "fails":
            raise ValueError("failed to call OrtRun(). ERROR_CODE: 2, ERROR_MESSAGE: Invalid rank for input: x")
        if mode == "hangs":
            time.sleep(600)
        found = sessions[number].run(request["names"], fed[number])
        if mode == "wrong":
            found = [one[:, ::-1] for one in found]
        outputs = [
            {"name": name, "type": str(one.dtype), "dims": one.shape, "size": one.nbytes}
            for name, one in zip(request["names"], found)
        ]
        return {"outputs": outputs}, b"".join(one.tobytes() for one in found)
    if op == "time":
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(request["runs"]):
            sessions[number].run(None, fed[number])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"wall": wall / request["runs"], "cpu": cpu / request["runs"]}, b""
    if op == "release":
        for number in request["numbers"]:
            del sessions[number]
    return {}, b""

while line := into.readline():
    request = json.loads(line)
    raw = into.read(request["size"])
    try:
        answer, found = work(request, raw)
    except Exception as error:
        answer, found = {"error": str(error)}, b""
    if mode == "garbage":
        out.write(b"<html>")
        break
    out.write(json.dumps({"size": len(found), **answer}).encode() + b"\\n" + found)
    out.flush()
"""


def make_folder(folder: Path, release: str = "2.0.0") -> Path:
    """Writes such a folder, and an executable in its `bin`; returns the folder."""
    package = folder / "node_modules" / PACKAGE
    package.mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": release}))
    (folder / "bin").mkdir()
    (folder / "bin" / "program.py").write_text(_NODE)
    node = folder / "bin" / "node"
    node.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder / "bin" / "program.py"}" "$@"\n')
    node.chmod(0o755)
    return folder


def asked(folder: Path) -> list[list[str]]:
    """What such a node was asked: operation, session, bytes."""
    return [line.split() for line in (folder / "bin" / "asked").read_text().splitlines()]


@contextmanager
def pretended(folder: Path) -> Iterator[Path]:
    """Within it such a folder is where the user has none."""
    make_folder(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(folder))
        patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("NODE_OPTIONS", "--require=./theirs.js")
        patch.delenv(MODE, raising=False)
        try:
            yield folder
        finally:
            web_session.end_all()


PATH = os.environ.get("PATH", "")  # of the user
REAL = os.environ.get(VARIABLE)
