"""A classifier of texts: a graph that takes texts as they are and gives the names of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wb.core.errors import BadArtefact, BadData
from wb.core.specs import IDS, MASK
from wb.core.system.files import read_text
from wb.export.foreign.opening import read_metadata
from wb.export.graph import TOKENIZER_KEY, read_architecture, read_classes
from wb.export.run import Runner
from wb.export.texts import read_vocabulary
from wb.hardware.device import Device
from wb.jobs.inputs import refuse_decoder
from wb.tasks.classes import CLASSES

AT_ONCE = 64  # texts in a run


def reads_texts(path: Path) -> bool:
    """Whether the graph at `path` takes texts and has its tokenizer. Raises `BadArtefact` if it is no ONNX graph."""
    return TOKENIZER_KEY in read_metadata(path)


class Reader:
    """The ONNX graph at `path`, which `wb` wrote for a network of texts; longer texts than it reads it may `truncate`.

    Raises:
        BadArtefact: it is no such graph, or its metadata are damaged.
        Unsupported: the network continues texts, and names no classes.
    """

    def __init__(self, path: Path, *, truncate: bool = False) -> None:
        self.path = path
        self.labels, _ = read_classes(path)
        vocabulary = read_vocabulary(path)
        if vocabulary is None:
            raise BadArtefact(f"{path} is no graph of `wb` for texts, or lacks its tokenizer; export it again")
        refuse_decoder(read_architecture(path), str(path))
        self.vocabulary = replace(vocabulary, truncate=truncate)

    @cached_property
    def _runner(self) -> Runner:
        return Runner(self.path, Device())

    def cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the network reads. Raises `BadData` if any is, and none may be truncated."""
        return self.vocabulary.cut(texts)

    def empty(self, texts: Sequence[str]) -> int:
        """How many of the texts have no token."""
        return int((self.vocabulary.encoded(texts).counts == 0).sum())

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The softmax of the class scores of texts: (n, classes).

        Raises:
            BadArtefact: the graph does not run, or does not give class scores.
            BadData: a text is too long.
        """
        found = []
        for start in range(0, len(texts), AT_ONCE):
            part = self.vocabulary.encoded(texts[start : start + AT_ONCE])
            ids = part.padded(-1)
            scores = self._runner({IDS: np.maximum(ids, 0), MASK: (ids >= 0).astype(np.int64)}, batch=len(ids))
            CLASSES.check_outputs(scores, np.zeros(len(scores), np.int64), str(self.path))
            found.append(CLASSES.votes(scores))
        return np.concatenate(found)


def texts_of(given: Sequence[object]) -> list[str]:
    """Texts as they are; the path of a file that ends in .txt stands for its lines.

    Raises:
        BadData: something else than texts, or none; or a file that is not there.
    """
    found: list[str] = []
    for one in given:
        if not isinstance(one, str | Path):
            raise BadData(f"a {type(one).__name__} is no text; the network reads texts")
        path = Path(one)
        no_path = "://" in str(one) or len(path.name) > 255 or any(sign.isspace() for sign in str(one))
        file = path.suffix == ".txt" and not no_path
        if file and not path.exists():
            raise BadData(
                f"there is no file {path}; give one with a text a line, or a text that is not named like a file"
            )
        if path.suffix == ".txt" and len(path.name) <= 255 and path.is_file():
            lines = read_text(path, "texts, one a line").split(
                "\n"
            )  # not at U+2028 and the like, as texts may have them
            found += [line for line in lines if line.strip()]
        else:
            found.append(str(one))
    if not found:
        raise BadData("no texts; give one or more, or a file that ends in .txt with one a line")
    return found
