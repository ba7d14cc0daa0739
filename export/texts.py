"""What a graph says of the texts that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wb.core.errors import BadArtefact
from wb.export.foreign.opening import open_graph, read_metadata
from wb.export.foreign.stored import inputs
from wb.export.graph import LENGTH_KEY, TOKENIZER_KEY, read_architecture
from wb.hardware.device import TOKENS_KEY

if TYPE_CHECKING:
    from wb.data.texts.vocabulary import Vocabulary


def read_vocabulary(path: Path) -> Vocabulary | None:
    """What the texts of a graph of the workbench are written with, whatever precision it is in; None for other graphs.

    Raises:
        BadArtefact: no ONNX file, or damaged metadata.
    """
    metadata = read_metadata(path)
    if TOKENIZER_KEY not in metadata:
        return None
    from wb.data.texts.vocabulary import Vocabulary  # imports a library that only texts need

    given = {key: metadata.get(key, "") for key in (LENGTH_KEY, TOKENS_KEY)}
    architecture = read_architecture(path)
    if architecture is not None and architecture.input.usual_tokens is not None:
        given |= {LENGTH_KEY: str(architecture.layout.shape[0]), TOKENS_KEY: str(architecture.input.usual_tokens)}
    length, tokens = (int(text) if text.isdecimal() and len(text) < 6 else 0 for text in given.values())
    if not 1 <= tokens <= length:
        raise BadArtefact(
            f"{path} has a tokenizer, and does not say how long its texts are (metadata {LENGTH_KEY} and {TOKENS_KEY}); export "
            "it again"
        )
    return Vocabulary(metadata[TOKENIZER_KEY], length, tokens)


def stretches(path: Path) -> bool:
    """Whether an input of the ONNX graph has an axis behind its first, which is that of the batch, that may have any size."""
    shapes = [value.type.tensor_type.shape.dim for value in inputs(open_graph(path))]
    return any(
        not dim.HasField("dim_value") and dim.dim_param != shape[0].dim_param for shape in shapes for dim in shape[1:]
    )
