"""The examples of a bundle: inputs with the scores of its graph, with which the bundle checks itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wb.core.architecture import Architecture
from wb.core.precision import computes_weights, precisions
from wb.core.specs import IDS, MASK, PIXELS
from wb.data import Dataset, Feed
from wb.export.graph import LOGITS, TOLERANCE
from wb.export.run import Runner
from wb.hardware.device import Device
from wb.models.feeds import made_up

EXAMPLES = 8
LOWERED = 0.05  # of the largest score: integer kernels round in another way on other processors
PASSAGES, TOKENS = (
    2,
    16,
)  # of a network that continues texts: each token has as many scores as there are in the vocabulary


def exact(architecture: Architecture) -> bool:
    """Whether the graph computes what the weights say, and not with weights that were rounded for it."""
    return computes_weights(precisions(architecture).values())


def stepwise(architecture: Architecture) -> bool:
    """Whether a graph gives token by token what it gives at once: 8-bit activations have one range for all tokens of a run."""
    return "int8" not in precisions(architecture).values()


def store(architecture: Architecture, data: Dataset | None, graph: Path, path: Path) -> str:
    """Writes inputs with the scores of `graph` to `path`; returns what they are."""
    made = _passages if architecture.causal else _examples
    stored, feed, told = made(architecture, data)
    scores = Runner(graph, Device())(feed, batch=1)
    tolerance = 10 * TOLERANCE if exact(architecture) else LOWERED
    stored |= {LOGITS: scores, "tolerance": np.float64(tolerance)}
    np.savez_compressed(path, **stored)
    return told


def _examples(architecture: Architecture, data: Dataset | None) -> tuple[dict[str, Any], Feed, str]:
    """Images or texts, at least one of each class where there are data."""
    feed: Feed
    if data is None:
        made_of = made_up(architecture.input.specs(), EXAMPLES)
        feed = {name: values.numpy() for name, values in made_of.items()}
        labels, told = np.full(EXAMPLES, -1), f"{EXAMPLES} inputs that are made up"
    else:
        split = data.test
        first = [int(np.flatnonzero(split.labels == label)[0]) for label in np.unique(split.labels)]
        picked = np.array([*first, *(i for i in range(len(split)) if i not in first)][:EXAMPLES])
        feed, labels, told = split.feed(picked), split.labels[picked], f"{len(picked)} examples of the test split"
    stored: dict[str, Any] = {"labels": labels}
    if MASK not in feed:
        return stored | {"images": feed[PIXELS]}, feed, told
    if data is None:  # each is as long as it says, from its beginning
        lengths = np.arange(EXAMPLES)[:, None] % feed[IDS].shape[1]
        feed = {IDS: feed[IDS], MASK: (np.arange(feed[IDS].shape[1]) <= lengths).astype(np.int64)}
    lines = [] if data is None else [data.test.line(i) for i in picked.tolist()]
    return stored | {"ids": feed[IDS], "mask": feed[MASK], "texts": np.array(lines, np.str_)}, feed, told


def _passages(architecture: Architecture, data: Dataset | None) -> tuple[dict[str, Any], Feed, str]:
    """The beginnings of passages, and texts with the ids that they are written with."""
    tokens = min(TOKENS, architecture.layout.tokens)
    texts, written = list[str](), np.zeros((0, tokens), np.int64)
    if data is None:
        ids = made_up(architecture.input.specs(), PASSAGES, tokens=tokens)[IDS].numpy()
        told = f"{PASSAGES} lines of {tokens} tokens that are made up"
    else:
        ids = data.test.inputs(slice(PASSAGES))[:, :tokens]
        told = f"the first {ids.shape[1]} tokens of {len(ids)} passages of the test split"
        vocabulary = data.test.vocabulary
        read = [] if vocabulary is None else [(vocabulary.read(row.tolist()), row) for row in ids]
        # What a text was cut out of may be written otherwise than the text alone.
        kept = [(text, row) for text, row in read if vocabulary and vocabulary.whole(text).tolist() == row.tolist()]
        texts, written = [text for text, _ in kept], np.array([row for _, row in kept] or written, np.int64)
    feed = {IDS: ids, MASK: np.ones_like(ids)}
    return {"ids": ids, "texts": np.array(texts, np.str_), "written": written}, feed, told
