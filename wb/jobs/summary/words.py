"""The summary of a data set as tables and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wb.core.statistics.verdict import Remark
from wb.data.copies import FIRST, NEAR
from wb.data.summary import Overlap, SplitSummary, Summary
from wb.jobs.calls.shown import Table

TEXTS = "texts"
_LISTED = 30  # classes of a table, at most; of more, only the largest and the smallest
_ENDS = 8  # classes at either end then
_UNEVEN = 1.5  # of the largest class over the smallest: from here on it is said


def splits_table(summary: Summary) -> Table:
    """What is known of each split, a column each."""
    texts = summary.noun == TEXTS
    rows: list[tuple[str, Callable[[SplitSummary], str]]] = [
        (summary.noun, lambda split: f"{split.images:,}"),
        ("from", lambda split: split.source),
        ("tokens" if texts else "values", lambda split: f"{split.low:.3g} to {split.high:.3g}"),
        ("mean", lambda split: by_channel(split.mean)),
        ("deviation", lambda split: by_channel(split.std)),
        *([] if texts else [("one colour", lambda split: f"{split.constant:,}")]),
        ("repeated", lambda split: f"{split.repeated:,}"),
    ]
    title = f"{summary.data}: {shape(summary)}, {len(summary.classes)} classes, fingerprint {summary.fingerprint}"
    columns = ("", *(split.name for split in summary.splits))
    return Table(title, columns, [(name, *map(text, summary.splits)) for name, text in rows], [gloss(summary)])


def shape(summary: Summary) -> str:
    """What each example is: `28x28 pixels, grey`."""
    if summary.described:
        return summary.described
    size = f"{summary.width}x{summary.height}"
    if summary.features:
        channels = "" if summary.channels == 1 else f" in {summary.channels} channels"
        return f"{summary.height} rows of {summary.width} features{channels}"
    return f"{size} pixels, {'grey' if summary.channels == 1 else 'colour'}"


def gloss(summary: Summary) -> str:
    """What the rows of the table mean."""
    if summary.noun == TEXTS:
        return "tokens of a text, with their mean and deviation; repeated: texts that are equal to an earlier one"
    values = "as they are in the file" if summary.features else "in 0 to 1"
    return (
        f"values are {values}, mean and deviation by channel; one colour: images that have one throughout; repeated: images that "
        "are equal to an earlier one, pixel by pixel"
    )


def by_channel(values: Sequence[float]) -> str:
    """`0.482 0.461 0.395`."""
    return " ".join(f"{value:.3f}" for value in values)


def classes_table(summary: Summary) -> Table:
    """One row for each class, the largest in training first; of very many only those at both ends."""
    rows = [
        (name, *(f"{split.counts[i]:,}" for split in summary.splits), _share(summary.splits[0], i))
        for i, name in by_size(summary)
    ]
    left = len(rows) - 2 * _ENDS
    if len(rows) > _LISTED:
        rows = [*rows[:_ENDS], (f"… {left} more …", "", "", "", ""), *rows[-_ENDS:]]
    return Table("classes", ("class", *(split.name for split in summary.splits), "of training"), rows)


def by_size(summary: Summary) -> list[tuple[int, str]]:
    """The classes by label and name, the largest in training first."""
    counts = summary.splits[0].counts
    return sorted(enumerate(summary.classes), key=lambda item: -counts[item[0]])


def _share(split: SplitSummary, label: int) -> str:
    return f"{100 * split.counts[label] / split.images:.1f} %"


def remarks(summary: Summary) -> list[Remark]:
    """What a user should know before training: left-out images, imbalance, and copies; what endangers a figure warns."""
    return [
        *(Remark(f"{note[:1].upper()}{note[1:]}.", False) for note in summary.notes),
        *_of_classes(summary),
        *_of_copies(summary),
    ]


def _of_classes(summary: Summary) -> Iterator[Remark]:
    train, test = summary.splits[0], summary.splits[-1]
    largest = max(range(len(summary.classes)), key=lambda label: test.counts[label])
    always = f"always answering {summary.classes[largest]} would be right for {_share(test, largest)} of the test {summary.noun}"
    (most, first), *_, (least, last) = by_size(summary)
    if not train.counts[least]:
        yield Remark(f"There are no training {summary.noun} of {last}; {always}.", True)
    elif summary.imbalance >= _UNEVEN:
        ratio = f"{train.counts[most]:,} training {summary.noun} of {first}, {train.counts[least]:,} of {last}"
        yield Remark(f"Classes are uneven, {summary.imbalance:.1f} to 1: {ratio}; {always}.", True)
    else:
        yield Remark(f"Classes are even, {summary.imbalance:.2f} to 1 at most; {always}.", False)


def _of_copies(summary: Summary) -> Iterator[Remark]:
    same = [split for split in summary.splits if split.repeated]
    for split in same:
        disputed = f"; {split.disputed:,} have several labels there" if split.disputed else ""
        yield Remark(
            f"{split.repeated:,} of {split.images:,} {summary.noun} of {split.name} repeat an earlier one{disputed}.",
            bool(split.disputed),
        )
    for overlap in summary.overlaps:
        yield from _of_overlap(overlap, summary)
    if not same and not any(overlap.images or overlap.near or overlap.unsettled for overlap in summary.overlaps):
        near = f", and none of validation and test is near one of training (within {_within(summary)})"
        yield Remark(
            f"No {summary.noun.removesuffix('s')} comes twice, within a split or in two{'' if summary.noun == TEXTS else near}.",
            False,
        )


def _of_overlap(overlap: Overlap, summary: Summary) -> Iterator[Remark]:
    total = next(split.images for split in summary.splits if split.name == overlap.of)
    parts = []
    if overlap.images:
        other = f" ({overlap.disputed:,} under another label)" if overlap.disputed else ""
        parts.append(f"{overlap.images:,} are in {overlap.among} too{other}")
    if overlap.near:
        what = f"{overlap.near:,}{' more' if overlap.images else ''}"
        parts.append(f"{what} differ from one of {overlap.among} by at most {_within(summary)}")
    if parts:
        known = overlap.among == "train" and bool(overlap.images)
        meaning = "; an accuracy on them tells what was remembered, not what was learned" if known else ""
        yield Remark(f"Of {total:,} {summary.noun} of {overlap.of}, {' and '.join(parts)}{meaning}.", known)
    if overlap.unsettled:
        yield Remark(
            f"{overlap.unsettled:,} images of {overlap.of} were compared with the {FIRST} of {overlap.among} that are most alike "
            "only, for too many are alike in the means of their parts: there may be more that are nearly equal.",
            False,
        )


def _within(summary: Summary) -> str:
    """Up to where images are near, of features in four deviations."""
    return f"{100 * NEAR:g} % of {'four deviations' if summary.features else 'the range'}, root mean square"
