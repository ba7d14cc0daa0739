"""What runtimes say when a graph cannot be loaded, in words for a user."""

from __future__ import annotations

import re

from wb.core.errors import printable
from wb.hardware.runtimes.base import Graph

_NO_GRAPH = (
    "INVALID_PROTOBUF",
    "No graph was found",
    "MODEL_LOADED",
    "Unable to read the model",
    "protobuf parsing failed",
    "Error parsing message",
)
_LACKING = (
    "No Op registered",
    "not a registered function/op",
    "NOT_IMPLEMENTED",
    "Could not find an implementation",
    "No conversion rule found",
    "Select TensorFlow op",
)
_NEWER = re.compile(r"Opset (\d+) is under development.*?domain (\S*) is till opset (\d+)", re.DOTALL)
_OPERATOR = re.compile(
    r"operations: ([\w.]+)|Op \(([\w.]+)\)|(?:registered|implementation) for (\w+)|error: ([\w.]+):(\w+)\("
)


def why_not_loaded(what: str, message: str, runtime: str, device: str, graph: Graph | None = None) -> str:
    """A sentence that explains a runtime's `message`, for the usual reasons; `graph` is looked through for a lacking operator."""
    detail = said(message)
    if any(words in message for words in _NO_GRAPH):
        return f"{what} is not an ONNX graph, or is cut short; export it again ({detail})"
    if (newer := _NEWER.search(message)) is not None:
        given, domain, known = newer.groups()
        plain = domain in {"", "ai.onnx"}
        whose = "" if plain else f" of {printable(domain)}"
        again = f"export it again with --opset {known} or an older one, or " if plain else ""
        return (
            f"{what} has operator set {given}{whose}, and {runtime} reads those up to {known}; {again}update "
            f"{runtime.split()[0]}"
        )
    if any(words in message for words in _LACKING):
        return (
            f"{what} uses an operator that {runtime} lacks on {device}{_where(message, graph)};"
            f" export with another opset or update {runtime.split()[0]} ({detail})"
        )
    return f"{runtime} cannot load {what}; check it with onnx.checker ({detail})"


def said(error: Exception | str) -> str:
    """What an error of a runtime says, in one line without error codes and source locations."""
    text = str(error).strip() or "no reason given"
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("Exception from", "Check '"))]
    rule = next((line.lstrip("- ") for line in lines if "No conversion rule" in line), None)
    first = rule or (lines or text.splitlines())[0].removeprefix("[ONNXRuntimeError] : ")
    first = re.sub(r"^.*ERROR_MESSAGE: (?:/\S+/onnxruntime/\S+ .*?\) )?", "", first)  # of onnxruntime-web
    text = re.sub(r"^\d+ : [A-Z_]+ : ", "", re.sub(r"/onnxruntime_src/\S+ ", "", first))
    return printable(text, 300)  # it contains names from the file


def _where(message: str, graph: Graph | None) -> str:
    """`: Frobnicate, at the node 'strange'`, where the message names the operator and the graph has it."""
    import onnx

    names = {part for found in _OPERATOR.findall(message) for part in found if part}
    operators = {re.sub(r"-\d+$", "", name.rpartition(".")[2]) for name in names}
    if graph is None or not operators:
        return ""
    try:
        model = onnx.load_from_string(graph) if isinstance(graph, bytes) else onnx.load(graph, load_external_data=False)
    except Exception:  # what is wrong with the file is no news
        return ""
    node = next((node for node in model.graph.node if node.op_type in operators), None)
    if node is None:
        return ""
    place = node.name or (node.output[0] if node.output else "")
    return f": {printable(node.op_type)}, at the node {printable(place)!r}"
