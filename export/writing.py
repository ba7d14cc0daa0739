"""Writing of a graph that an exporter of torch has made."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx

from wb.core.system.hush import hushed

_BRANCHES = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def write(graph: onnx.ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a graph, without what an exporter left in it, with `metadata`."""
    tidy(graph)
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value)
    onnx.save(graph, path)


def tidy(graph: onnx.ModelProto) -> None:
    """Removes source locations and comments, which bloat the file and reveal paths of the machine that made it."""
    graph.doc_string = ""
    _tidy(graph.graph)
    for function in graph.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        _tidy_nodes(function.node)


def _tidy(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    for part in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    _tidy_nodes(graph.node)


def _tidy_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            for branch in (attribute.g, *attribute.graphs) if attribute.type in _BRANCHES else ():
                _tidy(branch)


@contextlib.contextmanager
def quieted() -> Iterator[None]:
    """Silences the exporters, which print progress and warn of their own deprecation."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with hushed():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
