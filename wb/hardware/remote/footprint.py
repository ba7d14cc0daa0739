"""Says what a graph takes in a process of its own: memory, and the time until it is loaded; needs its runtime and numpy only.

It is sent to a device as text, and started there with the graph's file, a file of its inputs, the number of threads, and the
execution provider of ONNX Runtime (of a plugin `module:KIND:Provider`), the device of OpenVINO, `LiteRT`, or `Web FOLDER`; it
prints one line of JSON. Bytes are 0 where the kernel does not say them. A runtime that has a process of its own starts it by the
module of its sessions, of which SESSION is the text; memory is that of this process then.

The runtime's peak is in loading, where it holds the file, what it reads from it, and what it makes of that.
"""

import sys

sys.path[:] = filter(None, sys.path)  # what lies in the folder where it is started is none of its imports

import functools  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from typing import Any  # noqa: E402

import numpy  # noqa: E402

RUNS = 5
SESSION = ""
Run = Callable[[Mapping[str, Any]], Any]
# The graph of one Identity (operator set 13): its session makes what the runtime keeps for all sessions.
SMALLEST = bytes.fromhex(
    "080812003a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a017912"
    "0a0a08080112040a02080142040a00100d"
)


def status(process: str, field: str) -> int:
    """Bytes of a line `VmRSS: 123 kB` of a process; 0 where there is none."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as lines:
            return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)
    except OSError:
        return 0


def from_now_on(process: str) -> bool:
    """Whether the kernel forgets the highest memory of a process so far."""
    try:
        with open(f"/proc/{process}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


def forgotten(path: str) -> bool:
    """Whether the kernel was told to read the file anew."""
    if not hasattr(os, "posix_fadvise"):
        return False
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def of_onnxruntime(threads: int, provider: str) -> "Callable[[str | bytes], Run]":
    """What loads a graph with ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    named: dict[str, Any] = {"providers": [provider]}
    if ":" in provider:
        options.add_provider_for_devices([of_plugin(*provider.split(":"))], {})
        named = {}

    def load(what: "str | bytes") -> "Run":
        session = onnxruntime.InferenceSession(what, options, enable_fallback=0, **named)
        names = [output.name for output in session.get_outputs()]
        return lambda feed: session.run(names, feed)

    return load


def of_plugin(module: str, kind: str, provider: str) -> Any:
    """The first device of a kind that a plugin's provider offers."""
    import onnxruntime

    library = importlib.import_module(module).get_library_path()
    onnxruntime.register_execution_provider_library(provider, library)
    found = (one for one in onnxruntime.get_ep_devices() if one.ep_name == provider)
    return next(one for one in found if one.device.type.name == kind)


def of_openvino(threads: int, device: str) -> "Callable[[str | bytes], Run]":
    """What loads a graph with OpenVINO, as `wb.hardware.runtimes.ov` does."""
    core = importlib.import_module("openvino").Core()
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}

    def load(what: "str | bytes") -> "Run":
        request = core.compile_model(core.read_model(what), device, options).create_infer_request()
        return request.infer  # type: ignore[no-any-return]

    return load


def of_litert(threads: int, _: str) -> "Callable[[str | bytes], Run]":
    """What loads a `.tflite` file with LiteRT, as `wb.hardware.remote.lt_session` does."""
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter

    def load(what: "str | bytes") -> "Run":
        loaded = interpreter(model_path=what, num_threads=threads)
        loaded.allocate_tensors()
        places = {name: one["index"] for name, one in loaded.get_signature_runner().get_input_details().items()}

        def run(feed: "Mapping[str, Any]") -> None:
            for name, values in feed.items():
                loaded.set_tensor(places[name], values)
            loaded.invoke()

        return run

    return load


def of_web(_: int, provider: str) -> "Callable[[str | bytes], Run]":
    """What loads a graph with ONNX Runtime Web, in node."""
    session = module_of_session()

    def load(what: "str | bytes") -> "Run":
        loaded = session.load(what, 1, provider)
        return lambda feed: loaded.run(None, feed)

    return load


@functools.cache
def module_of_session() -> Any:
    """The module whose text is SESSION."""
    module = types.ModuleType("session")
    exec(compile(SESSION, "session", "exec"), module.__dict__)
    return module


def process_of(provider: str) -> str:
    """The process that has the graphs."""
    kind, _, folder = provider.partition(" ")
    return str(module_of_session().node_of(folder).process.pid) if kind == "Web" else "self"


def main(graph: str, inputs: str, threads: str, provider: str) -> None:
    """Prints bytes, before it is loaded and at most until it has run, and seconds, of loading it twice and of the first run."""
    with numpy.load(inputs, allow_pickle=False) as stored:
        feed = {name: stored[name] for name in stored.files}
    ways = {"CPU": of_openvino, "LiteRT": of_litert, "Web": of_web}
    load = ways.get(provider.partition(" ")[0], of_onnxruntime)(int(threads), provider)

    def loaded(what: "str | bytes") -> "tuple[Run, float]":
        start = time.perf_counter()
        run = load(what)
        return run, time.perf_counter() - start

    if provider != "LiteRT":  # which keeps nothing for all
        smallest, _ = loaded(SMALLEST)
        smallest({"x": numpy.zeros(1, numpy.float32)})
    cold = forgotten(graph)
    gc.collect()
    process = process_of(provider)
    before, known = status(process, "VmRSS"), from_now_on(process)
    run, first = loaded(graph)
    start = time.perf_counter()
    run(feed)
    ran = time.perf_counter() - start
    for _ in range(RUNS):
        run(feed)
    whole = status(process, "VmHWM")
    del run
    _, again = loaded(graph)
    bytes_ = {"before": before, "whole": whole} if known and before else None
    sys.stdout.write(
        json.dumps({"cold_s": first if cold else None, "warm_s": again, "first_run_s": ran, "bytes": bytes_})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
