"""A session of ONNX Runtime Web in node, with the methods of ONNX Runtime's; is sent to runners, and needs numpy and node only.

One process of node has all sessions of this one, as its engine compiles the runtime anew in each. It reads requests from its
standard input, a line of JSON and as many bytes as that says, and takes the time of runs by its own clock: what goes through the
pipe between is in no sample.

Limits: one thread. The processor's time is that of node's whole process, where node does not tell that of a thread (before 23.9).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import IO, Any, cast

import numpy

NODE = "node"
PACKAGE = "onnxruntime-web"
VARIABLE = "WB_WEB"  # names the folder in whose node_modules it is
LIMIT_S = 600.0  # of a request, after which node is ended
LAST = 2000  # characters of what it said last
_TYPES = {
    "float32": "float",
    "float64": "double",
}  # its words, and numpy's -> those of ONNX Runtime, where these differ
# The engine compiles anew, and better, what runs often: a graph that it has not seen is run for WARM_US of the processor first.
SERVER = r"""
import fs from 'node:fs';
import path from 'node:path';
import {createRequire} from 'node:module';
console.log = console.info = console.debug = console.error;
const WARM_US = 300000, MOST = 500;
const KINDS = {float32: Float32Array, float64: Float64Array, float16: Uint16Array, int64: BigInt64Array,
  uint64: BigUint64Array, int32: Int32Array, uint32: Uint32Array, int16: Int16Array, uint16: Uint16Array,
  int8: Int8Array, uint8: Uint8Array, bool: Uint8Array};
const sessions = new Map(), fed = new Map();
const cpu = () => {
  const used = process.threadCpuUsage ? process.threadCpuUsage() : process.cpuUsage();
  return used.user + used.system;
};
let ort;
let held = Buffer.alloc(0);
const more = (into, at) => fs.readSync(0, into, at, into.length - at, null) || process.exit(0);
const line = () => {
  for (;;) {
    const end = held.indexOf(10);
    if (end >= 0) {
      const found = held.subarray(0, end).toString();
      held = held.subarray(end + 1);
      return found;
    }
    const part = Buffer.alloc(1 << 16);
    held = Buffer.concat([held, part.subarray(0, more(part, 0))]);
  }
};
const bytes = (size) => {
  const into = Buffer.alloc(size);
  let at = held.copy(into);
  held = held.subarray(at);
  while (at < size) at += more(into, at);
  return into;
};
const write = (bytes) => {
  for (let at = 0; at < bytes.length;) at += fs.writeSync(1, bytes, at);
};
const tensors = (about, raw) => {
  const feeds = {};
  let at = 0;
  for (const {name, type, dims, size} of about) {
    const kind = KINDS[type];
    if (kind === undefined) throw new Error(`inputs of type ${type} are not known here`);
    const data = new Uint8Array(raw.subarray(at, at + size));
    feeds[name] = new ort.Tensor(type, new kind(data.buffer, 0, size / kind.BYTES_PER_ELEMENT), dims);
    at += size;
  }
  return feeds;
};
const described = (found) => found.map(({name, type, shape}) => ({name, type, shape}));
const work = {
  start: ({folder}) => {
    ort = createRequire(path.join(folder, 'here.js'))('onnxruntime-web');
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = 'fatal';
    return {};
  },
  load: async ({number, file}, raw) => {
    const options = {executionProviders: ['wasm'], graphOptimizationLevel: 'all', logSeverityLevel: 4};
    const session = await ort.InferenceSession.create(file ? fs.readFileSync(file) : raw, options);
    sessions.set(number, session);
    return {inputs: described(session.inputMetadata), outputs: described(session.outputMetadata)};
  },
  feed: ({number, inputs}, raw) => { fed.set(number, tensors(inputs, raw)); return {}; },
  warm: async ({number}) => {
    const start = cpu(), session = sessions.get(number), feeds = fed.get(number);
    for (let run = 0; run < MOST && cpu() - start < WARM_US; run++) await session.run(feeds);
    return {};
  },
  run: async ({number, names}) => {
    const found = await sessions.get(number).run(fed.get(number), names), outputs = [], parts = [];
    for (const name of names) {
      const {type, dims, data} = found[name];
      if (KINDS[type] === undefined) throw new Error(`outputs of type ${type} are not known here`);
      outputs.push({name, type, dims, size: data.byteLength});
      parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    return {outputs, raw: Buffer.concat(parts)};
  },
  time: async ({number, runs}) => {
    const session = sessions.get(number), feeds = fed.get(number);
    await session.run(feeds);
    const used = cpu(), start = process.hrtime.bigint();
    for (let run = 0; run < runs; run++) await session.run(feeds);
    const wall = Number(process.hrtime.bigint() - start) / 1e9;
    return {wall: wall / runs, cpu: (cpu() - used) / 1e6 / runs};
  },
  release: async ({numbers}) => {
    for (const number of numbers) {
      await sessions.get(number)?.release();
      sessions.delete(number);
      fed.delete(number);
    }
    return {};
  },
};
for (;;) {
  const request = JSON.parse(line());
  const given = bytes(request.size);
  let answer;
  try {
    answer = await work[request.op](request, given);
  } catch (error) {
    answer = {error: String(error?.message ?? error) || 'no reason given'};
  }
  const {raw = Buffer.alloc(0), ...rest} = answer;
  write(Buffer.concat([Buffer.from(JSON.stringify({size: raw.length, ...rest}) + '\n'), raw]));
}
"""


class Node:
    """A process of node with the package that lies in `folder`. Raises `RuntimeError` where it does not start."""

    def __init__(self, folder: str) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._number, self._since = 0, float("inf")
        self.left: list[int] = []  # sessions that nobody has any more
        self.warm: set[int] = set()  # hashes of graphs that have run long enough
        self.over = False
        program = shutil.which(NODE)
        if program is None:
            raise RuntimeError(f"there is no {NODE} on the path here")
        # No variable of the user's changes what is measured, and Ctrl-C is for this process, which then ends node.
        self.process = subprocess.Popen(
            [program, "--input-type=module", "-e", SERVER],
            env={name: value for name, value in os.environ.items() if not name.startswith("NODE_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,  # a group of its own, with any Python
        )
        threading.Thread(target=self._watch, args=(weakref.ref(self),), daemon=True).start()
        try:
            self.ask("start", folder=place_of(folder))
        except BaseException:
            if not self.over:  # it lives, and cannot load the package
                self.end()
            raise

    def ask(self, op: str, raw: bytes = b"", **fields: Any) -> dict[str, Any]:
        """The answer to a request, with bytes as `raw`. Raises `RuntimeError` for an error there, or where node ends."""
        if self.over:
            raise RuntimeError("node has ended since the graph was loaded")
        into, out = cast(IO[bytes], self.process.stdin), cast(IO[bytes], self.process.stdout)
        self._since = time.monotonic()
        try:
            into.write(json.dumps({"op": op, "size": len(raw), **fields}).encode() + b"\n" + raw)
            into.flush()
            answer: dict[str, Any] = json.loads(out.readline())
            answer["raw"] = out.read(answer["size"])
        except (OSError, ValueError, TypeError, KeyError) as error:  # it ended, or says something else
            raise self._ended(op) from error
        except BaseException:  # an interruption: whoever asks next would get the answer to this
            self.end()
            raise
        finally:
            self._since = float("inf")
        if "error" in answer:
            raise RuntimeError(str(answer["error"]))
        return answer

    def number(self) -> int:
        """That of a new session; those that nobody has any more are released."""
        if self.left:
            numbers, self.left[:] = self.left[:], []
            self.ask("release", numbers=numbers)
        self._number += 1
        return self._number

    def end(self) -> None:
        """Ends node, and with it its sessions."""
        self._stop()
        self._said.close()

    def _ended(self, op: str) -> RuntimeError:
        """What is raised where it answers no more; it is ended."""
        late = time.monotonic() - self._since > LIMIT_S
        self._stop()
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - LAST))
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        self._said.close()
        # An error has its text in the first line of that word, and below it the places that it came through.
        first = next((line for line in lines if "Error" in line), lines[-1] if lines else "it said nothing")
        why = f"it took longer than {LIMIT_S:g} s" if late else f"it ended, and said last: {first.strip()}"
        return RuntimeError(f"node gave no answer to {op}: {why}")

    def _stop(self) -> None:
        self.over = True
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was not taken is lost
                cast(IO[bytes], stream).close()

    @staticmethod
    def _watch(one: weakref.ref[Node]) -> None:
        """Ends node where a request takes too long."""
        while (node := one()) is not None and node.process.poll() is None:
            if time.monotonic() - node._since > LIMIT_S:
                node.process.kill()
            del node
            time.sleep(1.0)


class Session:
    """A graph, a file or its content, in node, with the package that lies in `folder`."""

    def __init__(self, graph: bytes | str, folder: str) -> None:
        self._node, self._hash = node_of(folder), hash(graph)
        self._number = self._node.number()
        raw, file = (graph, None) if isinstance(graph, bytes) else (b"", os.path.abspath(graph))
        self._about = self._node.ask("load", raw, number=self._number, file=file)
        self._fed: Mapping[str, Any] | None = None
        weakref.finalize(self, self._node.left.append, self._number)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._node.process.pid, os.sched_getaffinity(0))  # whoever measures may be pinned

    def get_inputs(self) -> Sequence[Any]:
        """Name, type and shape of each, as attributes."""
        return [_described(one) for one in self._about["inputs"]]

    def get_outputs(self) -> Sequence[Any]:
        """The same of the outputs."""
        return [_described(one) for one in self._about["outputs"]]

    def get_modelmeta(self) -> Any:
        """It does not tell what else is in the file."""
        return SimpleNamespace(custom_metadata_map={})

    def get_providers(self) -> Sequence[str]:
        """What runs it."""
        return ["wasm"]

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs of that name, or all."""
        names = [one["name"] for one in self._about["outputs"]] if outputs is None else list(outputs)
        self._feed(inputs)
        answer = self._node.ask("run", number=self._number, names=names)
        found, start = [], 0
        for one in answer["outputs"]:
            part = answer["raw"][start : start + one["size"]]
            found.append(numpy.frombuffer(part, numpy.dtype(one["type"])).reshape(one["dims"]).copy())
            start += one["size"]
        return found

    def timed(self, _: Sequence[str], inputs: Mapping[str, Any], runs: int) -> tuple[float, float]:
        """Seconds per run by node's clock, of wall time and of the processor, after one untimed run; all outputs are made.

        Inputs that are the same object as before are taken to be there.
        """
        if self._fed is not inputs:
            self._feed(inputs)
            self._fed = inputs
        if self._hash not in self._node.warm:
            self._node.ask("warm", number=self._number)
            self._node.warm.add(self._hash)
        answer = self._node.ask("time", number=self._number, runs=runs)
        return float(answer["wall"]), float(answer["cpu"])

    def _feed(self, inputs: Mapping[str, Any]) -> None:
        self._fed, about, parts = None, [], []
        for name, given in inputs.items():
            values = numpy.ascontiguousarray(given)
            parts.append(values.tobytes())
            kind = values.dtype.name
            about.append({"name": name, "type": kind, "dims": numpy.shape(given), "size": values.nbytes})
        self._node.ask("feed", b"".join(parts), number=self._number, inputs=about)


def load(graph: Any, threads: int, target: str) -> Session:
    """A session of a file or its content; `target` is `Web FOLDER`, of the package. It has one thread."""
    del threads
    return Session(graph if isinstance(graph, bytes) else str(graph), target.partition(" ")[2])


def place_of(folder: str) -> str:
    """The folder of the package: that one, or what VARIABLE names; empty where that names none."""
    named = folder or os.environ.get(VARIABLE, "")
    return os.path.abspath(os.path.expanduser(named)) if named else ""


def versions(folder: str) -> str:
    """The versions of the package and of node, as text. Raises `OSError`, `ValueError` or `KeyError` without them."""
    place = place_of(folder)
    if not place:
        raise FileNotFoundError(f"no folder is named, with folder= or {VARIABLE}")
    with open(os.path.join(place, "node_modules", PACKAGE, "package.json"), encoding="utf-8") as file:
        own = str(json.load(file)["version"])
    program = shutil.which(NODE)
    if program is None:
        raise FileNotFoundError(f"there is no {NODE} on the path")
    argv = [program, "--version"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    if done.returncode or not done.stdout.strip():
        raise ValueError(f"{program} --version says {(done.stderr or done.stdout).strip()[:200]!r}")
    return f"{own} in node {done.stdout.strip().lstrip('v')}"


_NODES: dict[tuple[str, int], Node] = {}


def on_web(_: Any, request: Mapping[str, Any], __: bytes) -> dict[str, Any]:
    """For a runner: the versions there."""
    return {"version": versions(request["folder"])}


OPERATIONS = {"on_web": on_web}


def node_of(folder: str) -> Node:
    """The process of node of this one, a new one where the last has ended."""
    key = folder, os.getpid()  # a fork has none yet
    if key not in _NODES or _NODES[key].over:
        _NODES[key] = Node(folder)
    return _NODES[key]


def end_all() -> None:
    """Ends the processes of node that this one has; sessions are begun anew after it."""
    for (_, pid), node in _NODES.items():
        if pid == os.getpid() and not node.over:
            node.end()
    _NODES.clear()


def _described(about: Mapping[str, Any]) -> SimpleNamespace:
    kind = str(about["type"])
    return SimpleNamespace(name=about["name"], type=f"tensor({_TYPES.get(kind, kind)})", shape=list(about["shape"]))
