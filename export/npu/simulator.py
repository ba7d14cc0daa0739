"""Compiles a graph with Qualcomm's plugin of ONNX Runtime and runs it in the simulator; a process of its own.

The plugin's libraries print to standard output and may end the process, so that nobody else lives in it. It reads one order as
JSON, and answers in lines of JSON: what was compiled, then each run, then the end.

Limits: seconds are those of a simulator, and nothing here says any.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

MODULE, PROVIDER = "onnxruntime_qnn", "QNNExecutionProvider"
Say = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Answers the order on standard input; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(content: Mapping[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        simulate(json.loads(sys.stdin.buffer.read()), say)
    except Exception as error:  # the runtime's exceptions have no common base class
        say({"error": str(error) or type(error).__name__})
    os._exit(0)  # skips the destructors of the simulator


def simulate(order: Mapping[str, Any], say: Say) -> None:
    """Compiles the graph's file `graph` for a processor, writes the result to `compiled`, and runs it on the rows of `inputs`.

    `inputs` is a file of arrays (runs, ...) by the names of the graph's inputs; `outputs` gets one (runs, ...) of `output`.
    """
    import numpy

    session = _session(order)
    say({"nodes": _nodes(session)})
    with numpy.load(order["inputs"], allow_pickle=False) as stored:
        rows = {name: stored[name] for name in stored.files}
    given = []
    for number in range(len(next(iter(rows.values())))):
        given += session.run([order["output"]], {name: values[number] for name, values in rows.items()})
        say({"ran": number + 1})
    numpy.save(order["outputs"], numpy.stack(given))
    say({"done": True})


def _session(order: Mapping[str, Any]) -> Any:
    import onnxruntime

    plugin = importlib.import_module(MODULE)
    onnxruntime.register_execution_provider_library(PROVIDER, plugin.get_library_path())
    devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == PROVIDER]
    if not devices:
        raise RuntimeError("the plugin offers no device on this machine")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for name, value in (
        ("session.record_ep_graph_assignment_info", "1"),
        ("ep.context_enable", "1"),
        ("ep.context_file_path", order["compiled"]),
        ("ep.context_embed_mode", "1"),  # one file, with the compiled part in it
    ):
        options.add_session_config_entry(name, value)
    target = {"backend_path": plugin.get_qnn_htp_path(), "soc_model": order["soc"], "htp_arch": order["arch"]}
    options.add_provider_for_devices(devices[:1], target)
    return onnxruntime.InferenceSession(order["graph"], options)


def _nodes(session: Any) -> dict[str, dict[str, int]]:
    """Provider -> operator -> number of its nodes there."""
    found: dict[str, dict[str, int]] = {}
    for part in session.get_provider_graph_assignment_info():
        counts = found.setdefault(part.ep_name, {})
        for node in part.get_nodes():
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return found


if __name__ == "__main__":
    main()
