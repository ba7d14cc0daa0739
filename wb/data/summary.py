"""What is known of a data set once it is read: its splits, classes, pixels, copies, and what was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from wb.core.commands.progress import Progress
from wb.core.errors import Unsupported
from wb.core.records import Frozen
from wb.data.copies import Settled, digests, near, repeated
from wb.data.dataset import Dataset, Split, blank, moments

_PAIRS = (("validation", "train"), ("test", "train"), ("test", "validation"))
_SHOWN = 24  # images with two labels that are named one by one


class SplitSummary(Frozen):
    """One split: the number of its images, of each class, and of those that repeat an earlier one or have one colour throughout.

    `low`, `high`, and by channel `mean` and `std`, are in units of [0, 1], those of features in their own, and those of texts of
    their numbers of tokens, none cut. `disputed` counts images that the split also has with another label.
    """

    name: str
    source: str
    images: int
    counts: tuple[int, ...]
    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    constant: int
    repeated: int
    disputed: int


class Overlap(Frozen):
    """How many of the images of the split `of` are in the split `among` too, and of those under another label only.

    `near` counts others that differ from some image there by at most `wb.data.copies.NEAR`; of `unsettled` more it is not known,
    for they were compared with the images that are most alike only.
    """

    of: str
    among: str
    images: int
    disputed: int
    near: int
    unsettled: int = 0


class Disputed(Frozen):
    """An image, by its split and its index there, that occurs with several labels."""

    split: str
    index: int
    labels: tuple[str, ...]


class Summary(Frozen):
    """What was understood of the data set `data`; `notes` say what was left out or changed, and why."""

    data: str
    name: str
    fingerprint: str
    channels: int
    height: int
    width: int
    features: bool = False
    noun: Annotated[str, Field(exclude_if=lambda noun: noun == "images")] = "images"
    described: Annotated[str, Field(exclude_if=lambda words: not words)] = ""
    classes: tuple[str, ...]
    splits: tuple[SplitSummary, ...]
    overlaps: tuple[Overlap, ...]
    disputed: tuple[Disputed, ...]
    notes: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """The images of the largest class over those of the smallest, in training; infinite where a class has none."""
        counts = self.splits[0].counts
        return max(counts) / min(counts) if min(counts) else float("inf")


def summarize(data: Dataset, progress: Progress = lambda what, done, of: None) -> Summary:
    """Counts, compares and measures the images of all splits. Everything is counted on the pixels as networks get them."""
    if not data.classes:
        raise Unsupported(
            f"data {data.spec!r} are {data.train.noun} of one text, without classes to count; `wb train --data {data.spec} "
            "-o FILE --dry-run` says how many there are, and what would be learned"
        )
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    keys = {}
    done, total = 0, sum(map(len, splits.values())) + sum(len(splits[of]) for of, _ in _PAIRS)
    for name, split in splits.items():
        progress("looking for copies", done, total)
        keys[name] = digests(split)
        done += len(split)
    answers = _answers(splits, keys)
    overlaps = []
    for of, among in _PAIRS:
        overlaps.append(_overlap(of, among, splits, keys, partial(_settled, progress, done, total)))
        done += len(splits[of])
    return Summary(
        data=data.spec,
        name=data.name,
        fingerprint=data.fingerprint,
        **_shape(data),
        features=data.features,
        classes=data.classes,
        splits=tuple(
            _split(name, split, keys[name], source, len(data.classes))
            for (name, split), source in zip(splits.items(), data.sources, strict=True)
        ),
        overlaps=tuple(overlaps),
        disputed=tuple(
            Disputed(split=name, index=i, labels=tuple(data.classes[label] for label in sorted(labels)))
            for name, i, labels in answers[:_SHOWN]
        ),
        notes=data.notes,
    )


def _shape(data: Dataset) -> dict[str, Any]:
    if data.train.vocabulary is None:
        return {"channels": data.channels, "height": data.height, "width": data.width}
    return {"channels": 0, "height": 0, "width": 0, "noun": data.train.noun, "described": data.train.described}


def _settled(progress: Progress, before: int, total: int, more: int) -> None:
    progress("looking for copies", before + more, total)


def _split(name: str, split: Split, keys: Sequence[bytes], source: str, classes: int) -> SplitSummary:
    low, high, mean, std = _values(split)
    labels = _labels(split, keys)
    return SplitSummary(
        name=name,
        source=source,
        images=len(split),
        counts=tuple(np.bincount(split.labels, minlength=classes).tolist()),
        low=low,
        high=high,
        mean=mean,
        std=std,
        constant=blank(split) if split.vocabulary is None else 0,
        repeated=len(repeated(keys)),
        disputed=sum(len(labels[key]) > 1 for key in keys),
    )


def _values(split: Split) -> tuple[float, float, tuple[float, ...], tuple[float, ...]]:
    """The smallest and the largest value, and means and deviations by channel; of texts, of their numbers of tokens."""
    if split.vocabulary is not None:
        counts = split.lengths()
        return float(counts.min()), float(counts.max()), (float(counts.mean()),), (float(counts.std()),)
    mean, std = moments(split)
    whole = split.images.dtype == np.uint8
    low, high = (float(value) / (255 if whole else 1) for value in (split.images.min(), split.images.max()))
    return low, high, mean, std


def _overlap(of: str, among: str, splits: dict[str, Split], keys: dict[str, list[bytes]], settled: Settled) -> Overlap:
    own, other = splits[of], splits[among]
    known = _labels(other, keys[among])
    there = np.array([key in known for key in keys[of]])
    disputed = sum(
        int(label) not in known[key] for key, label in zip(keys[of], own.labels.tolist(), strict=True) if key in known
    )
    rest = np.flatnonzero(~there)
    close = near(own.take(rest), other, lambda more: settled(len(own) - len(rest) + more))
    return Overlap(
        of=of,
        among=among,
        images=int(there.sum()),
        disputed=disputed,
        near=int(close.found.sum()),
        unsettled=close.unsettled,
    )


def _answers(splits: dict[str, Split], keys: dict[str, list[bytes]]) -> list[tuple[str, int, set[int]]]:
    """The first of each image that occurs with several labels, in any split: its split, index and labels."""
    labels: defaultdict[bytes, set[int]] = defaultdict(set)
    first: dict[bytes, tuple[str, int]] = {}
    for name, split in splits.items():
        for i, (key, label) in enumerate(zip(keys[name], split.labels.tolist(), strict=True)):
            labels[key].add(label)
            first.setdefault(key, (name, i))
    return [(*first[key], found) for key, found in labels.items() if len(found) > 1]


def _labels(split: Split, keys: Sequence[bytes]) -> dict[bytes, set[int]]:
    """The labels that each image of the split has there."""
    found: defaultdict[bytes, set[int]] = defaultdict(set)
    for key, label in zip(keys, split.labels.tolist(), strict=True):
        found[key].add(label)
    return dict(found)
