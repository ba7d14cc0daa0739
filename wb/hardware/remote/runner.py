"""Runs graphs on the machine where it is started, as lines of JSON on its standard input ask; needs onnxruntime and numpy only.

It is sent over the same channel that then carries the requests, so that no file is left on the device, and it ends when the
channel does. Each request is a line `{"id": 1, "op": "load", …}`, followed by `"size"` raw bytes where there are some; each
answer is a line `{"id": 1, …}`, with `"error"` where something went wrong. While it works it says `{"beat": true}` every two
seconds. What libraries print goes to standard error.

`wb` itself times with the class `Timed` of this file, so that there is one way of taking samples.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PROTOCOL = 1
BEAT_S = 2.0
RENEWAL = 0.3  # share of a graph's time that may go into new sessions; a large file loads slower than it runs
REFERENCE = (
    "\0reference"  # the name of the reference graph, which stands before and after every other; no caller has it
)


class Timed:
    """A graph that is ready for timing samples: one lasts about `sample_s` seconds. `make` gives a new session with inputs."""

    def __init__(self, make: Callable[[], tuple[Any, Mapping[str, Any]]], sample_s: float) -> None:
        self._make, self._sample_s = make, sample_s
        self.renewing_s = 0.0
        self.sampling_s = 0.0
        self.renew()
        once = min(self._time(1)[0] for _ in range(3))
        self.runs = max(1, math.ceil(sample_s / once))
        self.cost_s = (self.runs + 1) * once + sample_s  # with its reference sample

    def renew(self) -> None:
        """Makes a new session and new inputs, at new memory addresses, and warms them up."""
        start = time.perf_counter()
        self._session, self._inputs = self._make()
        self._outputs = [output.name for output in self._session.get_outputs()]
        # One that runs in another process takes the time there, also after an untimed run.
        self._clock = getattr(self._session, "timed", None)
        for _ in range(3):
            self._session.run(self._outputs, self._inputs)
        self.last_renewal_s = time.perf_counter() - start
        self.renewing_s += self.last_renewal_s

    def renew_if_cheap(self) -> None:
        """Renews, if new sessions then take at most `RENEWAL` of all the time spent on this graph."""
        if self.renewing_s + self.last_renewal_s <= RENEWAL * (self.sampling_s + self.renewing_s + self.last_renewal_s):
            self.renew()

    def take(self) -> tuple[float, float]:
        """One untimed run, then `runs` timed ones: seconds per run of wall time, and of CPU time of this thread."""
        if self._clock is None:
            self._session.run(self._outputs, self._inputs)
        wall, cpu = self._time(self.runs)
        self.sampling_s += wall * (self.runs + 1)
        return wall, cpu

    def _time(self, runs: int) -> tuple[float, float]:
        if self._clock is not None:
            found: tuple[float, float] = self._clock(self._outputs, self._inputs, runs)
            return found
        run, outputs, inputs = self._session.run, self._outputs, self._inputs
        cpu, wall = time.thread_time(), time.perf_counter()
        for _ in range(runs):
            run(outputs, inputs)
        wall_end, cpu_end = time.perf_counter(), time.thread_time()
        return (wall_end - wall) / runs, (cpu_end - cpu) / runs


def alternate(probes: Mapping[str, Timed], order: Sequence[str]) -> list[tuple[float, float]]:
    """Samples of the graphs in `order`, each between two of the reference: 2 n + 1 of them. Sessions are renewed before."""
    for name in (REFERENCE, *dict.fromkeys(order)):
        probes[name].renew_if_cheap()
    samples = [probes[REFERENCE].take()]
    for name in order:
        samples += [probes[name].take(), probes[REFERENCE].take()]
    return samples


def apart(
    script: str, graph: bytes | str, inputs: Mapping[str, Any], options: Mapping[str, Any], seconds: float
) -> str:
    """What a script prints in a process of its own, which is given the files of a graph and of its inputs; these are gone then.

    A graph in memory is written to a file first, which then is gone too.

    Raises:
        RuntimeError: it fails, with what it said last, or takes longer.
    """
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("graph.onnx", "inputs.npz")]
        if isinstance(graph, str):  # whose weights may lie beside it
            paths[0] = graph
        else:
            with open(paths[0], "wb") as file:
                file.write(graph)
        numpy.savez(paths[1], **inputs)
        argv = [sys.executable, "-c", script, *paths, str(options["threads"]), options["provider"]]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"it took longer than {seconds:g} s") from None
    if done.returncode:
        killed = f"it ended with {done.returncode}; there may not be memory enough for it beside what else runs"
        raise RuntimeError((done.stderr.strip().splitlines() or [killed])[-1])
    return done.stdout


def hello() -> dict[str, Any]:
    """What there is to know of the machine before anything runs on it."""
    import numpy
    import onnxruntime

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return {
        "protocol": PROTOCOL,
        "machine": platform.machine(),
        "system": platform.platform(),
        "processor": processor(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "onnxruntime": onnxruntime.__version__,
        "openvino": installed("openvino"),
        "litert": installed("ai-edge-litert"),
        "providers": onnxruntime.get_available_providers(),
        "cores": {str(core): {"capacity": capacity(core), "max_khz": frequency(core, "cpuinfo_max")} for core in cores},
        "memory": _number("/proc/meminfo", "MemTotal"),
        "clocks": {name: time.get_clock_info(name).resolution for name in ("perf_counter", "thread_time")},
        "state": state(),
    }


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def load(graph: Any, threads: int, provider: str, *, assigned: bool = False, device: Any = None) -> Any:
    """A session of the runtime: a graph's file or bytes, sequential execution, all optimisations, one provider and no other.

    It remembers which processor runs which nodes if that is to be `assigned`. `device` is one of a plugin's provider.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors are raised; the runtime would also print them to stderr
    if assigned:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if device is not None:
        options.add_provider_for_devices([device], {})
        return onnxruntime.InferenceSession(graph, sess_options=options, enable_fallback=0)
    # With a fallback it prints errors to stdout, and tries again.
    return onnxruntime.InferenceSession(graph, sess_options=options, providers=[provider], enable_fallback=0)


def assigned(session: Any) -> dict[str, int]:
    """Provider -> number of the nodes that it runs, of a session that remembers it; none where the runtime does not tell."""
    counts: dict[str, int] = {}
    told = getattr(session, "get_provider_graph_assignment_info", None)
    for part in told() if told is not None else ():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    return counts


def fields_of(path: str) -> dict[str, str]:
    """Name -> first value, from lines `name : value`; empty if the file cannot be read."""
    pairs = [line.partition(":") for line in _text(path).splitlines()]
    return {name.strip(): value.strip() for name, _, value in reversed(pairs) if value.strip()}


def processor() -> str:
    """The board's or the processor's name. Most ARM kernels give no model name, and a board says more than its part number."""
    board = _text("/proc/device-tree/model").replace("\0", "").strip()
    fields = fields_of("/proc/cpuinfo")
    if "model name" in fields:
        name = f"{fields['model name']} (family {fields.get('cpu family', '?')} model {fields.get('model', '?')})"
    elif "CPU part" in fields:
        name = f"{platform.machine()} implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    else:
        name = platform.processor() or platform.machine() or "unknown processor"
    return f"{board}, {name}" if board else name


def state() -> dict[str, Any]:
    """What may slow the machine down: governors, frequencies in kHz, temperatures in degrees, and whether it is throttled."""
    cores = glob.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    slowed = any(0 < _whole(f"{core}/scaling_max_freq") < _whole(f"{core}/cpuinfo_max_freq") for core in cores) or any(
        _whole(f"{place}/cur_state") > 0
        for place in glob.glob("/sys/class/thermal/cooling_device*")
        if "processor" in _text(f"{place}/type").lower() or "cpu" in _text(f"{place}/type").lower()
    )
    return {
        "governors": sorted({_text(f"{core}/scaling_governor").strip() for core in cores} - {""}),
        "khz": [_whole(f"{core}/scaling_cur_freq") for core in sorted(cores)],
        "celsius": [
            _whole(f"{zone}/temp") / 1000
            for zone in sorted(glob.glob("/sys/class/thermal/thermal_zone*"))
            if _whole(f"{zone}/temp")
        ],
        "throttled": slowed,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def capacity(core: int) -> int:
    """The kernel's measure of a core, 1024 for the largest; 0 where it is not known."""
    return _whole(f"/sys/devices/system/cpu/cpu{core}/cpu_capacity")


def frequency(core: int, which: str) -> int:
    """A frequency of a core in kHz; 0 where it is not known."""
    return _whole(f"/sys/devices/system/cpu/cpu{core}/cpufreq/{which}_freq")


class Runner:
    """What is loaded, and what answers requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.inputs: dict[str, dict[str, Any]] = {}
        self.probes: dict[str, Timed] = {}
        self.options: dict[str, dict[str, Any]] = {}  # of each graph, by its name
        self.learned: dict[str, types.ModuleType] = {}

    def answer(self, request: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
        """The answer to one request, each operation a method `on_…`, or such a function of what was learned, given the runner."""
        name = f"on_{request['op']}"
        found: Any = getattr(self, name, None)
        for module in self.learned.values():
            found = found or getattr(module, "OPERATIONS", {}).get(name)
        if found is None:
            raise ValueError(f"no operation {request['op']!r}")
        own = getattr(self, name, None) is not None
        answer: dict[str, Any] = found(request, raw) if own else found(self, request, raw)
        return answer

    def on_learn(self, request: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
        """Takes a module that is sent along: more operations, or another runtime's `load`."""
        module = types.ModuleType(request["name"])
        exec(compile(raw, request["name"], "exec"), module.__dict__)
        self.learned[request["name"]] = module
        return {}

    def on_hello(self, _: Mapping[str, Any], __: bytes) -> dict[str, Any]:
        """What there is to know of the machine."""
        return hello()

    def on_state(self, _: Mapping[str, Any], __: bytes) -> dict[str, Any]:
        """What may slow it down just now."""
        return state()

    def on_have(self, request: Mapping[str, Any], _: bytes) -> dict[str, Any]:
        """Which files are not here yet."""
        return {"missing": [sha for sha in request["shas"] if sha not in self.files]}

    def on_put(self, request: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
        """Keeps a file in memory."""
        if hashlib.sha256(raw).hexdigest() != request["sha"]:
            raise OSError("the bytes that arrived are not those that were sent")
        self.files[request["sha"]] = raw
        return {}

    def on_feed(self, request: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
        """Keeps the inputs of a graph."""
        import numpy

        with numpy.load(io.BytesIO(raw), allow_pickle=False) as stored:
            self.inputs[request["name"]] = {name: stored[name] for name in stored.files}
        return {}

    def on_batch(self, request: Mapping[str, Any], _: bytes) -> dict[str, Any]:
        """Samples of graphs that are ready."""
        return {"samples": alternate(self.probes, request["order"])}

    def on_load(self, request: Mapping[str, Any], _: bytes) -> dict[str, Any]:
        """Says what inputs a graph takes. Sessions are made anew later, with the same options."""
        start = time.perf_counter()
        loaded = self.begun(request)
        specs = [{"name": i.name, "type": i.type, "shape": i.shape} for i in loaded.get_inputs()]
        metadata = dict(loaded.get_modelmeta().custom_metadata_map)
        return {
            "inputs": specs,
            "metadata": metadata,
            "providers": loaded.get_providers(),
            "seconds": time.perf_counter() - start,
        }

    def on_apart(self, request: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
        """What a script, which is sent along, prints of a graph that is loaded and fed."""
        graph, inputs = self.files[request["sha"]], self.inputs[request["name"]]
        return {"said": apart(raw.decode(), graph, inputs, self.options[request["name"]], request["limit_s"])}

    def begun(self, request: Mapping[str, Any]) -> Any:
        """A first session of a graph, of a name, with its options, on the cores that are asked for."""
        self.options[request["name"]] = {name: request.get(name) for name in ("threads", "provider", "runtime")}
        if request.get("cores") and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, set(request["cores"]))
        return self._session(request["name"], request["sha"])

    def _session(self, name: str, sha: str) -> Any:
        options = self.options[name]
        way = load if options["runtime"] is None else self.learned[options["runtime"]].load
        return way(self.files[sha], options["threads"], options["provider"])

    def on_ready(self, request: Mapping[str, Any], _: bytes) -> dict[str, Any]:
        """Makes sessions of these graphs, in the place of earlier ones, and files of no others are kept."""
        self.probes.clear()
        for name, sha in request["graphs"].items():
            self.probes[name] = Timed(lambda n=name, s=sha: self._made(n, s), request["sample_s"])  # type: ignore[misc]
        self.files = {sha: self.files[sha] for sha in request["graphs"].values()}
        return {"cost_s": {name: probe.cost_s for name, probe in self.probes.items()}}

    def _made(self, name: str, sha: str) -> tuple[Any, Mapping[str, Any]]:
        return self._session(name, sha), {key: value.copy() for key, value in self.inputs[name].items()}


def serve(requests: Any, answers: Any) -> None:
    """Answers requests until there are no more."""
    runner, busy, over, lock = Runner(), threading.Event(), threading.Event(), threading.Lock()

    def say(content: Mapping[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(content).encode() + b"\n")
            answers.flush()

    def beat() -> None:
        while not over.wait(BEAT_S):
            if busy.is_set():
                say({"beat": True})

    say({"ready": PROTOCOL})
    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    while line := requests.readline():
        request = json.loads(line)
        raw = requests.read(request["size"]) if request.get("size") else b""
        busy.set()
        try:
            answer = runner.answer(request, raw)
        except Exception as error:  # whatever it is, the other side is told
            answer = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}
        busy.clear()
        say({"id": request["id"], **answer})
    over.set()
    beating.join()


def main() -> None:
    """Answers standard input on standard output; what libraries print goes to standard error."""
    for ended in ("SIGTERM", "SIGHUP"):  # by an exception, so that no other process and no file is left
        if hasattr(signal, ended):
            signal.signal(getattr(signal, ended), lambda *_: sys.exit(1))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(0)  # the other side has gone


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _whole(path: str) -> int:
    try:
        return int(_text(path))
    except ValueError:
        return 0


def _number(path: str, name: str) -> int:
    """The number of bytes in a line `name: 123 kB`; 0 where there is none."""
    for line in _text(path).splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
