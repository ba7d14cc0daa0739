"""What both models are run on: images, texts or passages, of data or made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wb.core.architecture import Architecture
from wb.core.specs import IDS, MASK, PIXELS
from wb.data import Feed, Split
from wb.data.stratify import choose as stratified
from wb.models.feeds import made_up

TOKENS = 4096  # each of which has as many scores as there are in the vocabulary: passages have no more together
MADE_UP = {"images": "images that are made up (uniform noise)", "texts": "texts that are made up (random tokens)"}


@dataclass(frozen=True)
class Examples:
    """Examples (n, ...) as networks take them (images in [0, 1], or ids that are negative at padding), and what they are called.

    `labels` (n,) are theirs, or (n, tokens) where each token has one; None of what is made up.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64] | None
    name: str
    noun: str = "images"
    notes: list[str] = field(default_factory=list)

    def feed(self) -> Feed:
        """The same as graphs take them."""
        if self.inputs.dtype.kind == "f":
            return {PIXELS: self.inputs}
        return {IDS: self.inputs.clip(min=0), MASK: (self.inputs >= 0).astype(np.int64)}


def taken(split: Split, most: int, name: str, notes: list[str]) -> Examples:
    """At most so many examples of the split, stratified; the preparation of images is the matter of each network."""
    if split.labels.ndim > 1:
        most = max(1, min(most, TOKENS // split.labels.shape[1]))
        chosen = np.arange(min(most, len(split))) * len(split) // min(most, len(split))
    else:
        chosen = stratified(split.labels, most) if most < len(split) else np.arange(len(split))
    part = split.take(chosen)
    return Examples(part.inputs(), part.labels, name, part.noun, notes)


def of_tokens(architecture: Architecture, count: int, seed: int) -> Examples:
    """Random tokens: texts of any length, or passages, which are whole."""
    usual = architecture.input.usual_tokens or 1
    count = max(1, min(count, TOKENS // usual)) if architecture.causal else count
    found = {name: one.numpy() for name, one in made_up(architecture.input.specs(), count, seed, usual).items()}
    ends = 1 + np.random.default_rng(seed).integers(usual, size=(count, 1))
    counts = np.arange(usual) < (usual if architecture.causal else ends)
    noun = "passages" if architecture.causal else "texts"
    return Examples(np.where(counts, found[IDS], -1), None, MADE_UP["texts"].replace("texts", noun, 1), noun)
