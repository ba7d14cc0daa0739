"""What networks do not see of texts, by the vocabulary that these are written with: refused, or counted in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wb.data.split import Split
from wb.data.texts.lengths import TooLong
from wb.data.texts.passages import Passages
from wb.data.texts.split import Texts
from wb.data.texts.vocabulary import Vocabulary, alphabet_of

LEFT = 0.01  # the share of a text that may be left out without a word


def gaps(
    train: Split, validation: Split, test: Split, *, own: str | None = None, looking: bool = False
) -> tuple[str, ...]:
    """A sentence for each split with texts that are truncated, or with characters that the vocabulary has no token for.

    `own` is the form of the data where the length is theirs, and not that of a network. Who is only `looking` is told what others
    are refused.

    Raises:
        BadData: texts are longer than a network reads, and may not be truncated.
    """
    splits = {"train": train, "validation": validation, "test": test}
    counts = {role: found for role, split in splits.items() if len(found := split.lengths())}
    vocabulary = train.vocabulary
    if vocabulary is None:
        return ()
    prose = not isinstance(train, Texts)
    length = vocabulary.length + prose  # what follows the last token of a passage is foreseen
    over = {role: int((each > length).sum()) for role, each in counts.items()}
    notes: list[str] = []
    if any(over.values()) and not vocabulary.truncate:
        long = TooLong.of({role: each.tolist() for role, each in counts.items()}, length, own=own, prose=prose)
        if not looking:
            raise long.error()
        notes = [long.note()]
    elif any(over.values()):
        notes = [
            f"{over[role]:,} of {len(each):,} texts for {role} are longer than {length} tokens: the rest is cut"
            for role, each in counts.items()
            if over[role]
        ]
    return (*notes, *_left(splits), *_unknown(splits))


def _left(splits: Mapping[str, Split]) -> list[str]:
    """What is said of texts that judge and end with much that is no whole passage, and is left out."""
    found = []
    for role, part in splits.items():
        if role == "train" or not isinstance(part, Passages) or not part.whole:
            continue
        left = len(part.ids) - 1 - len(part) * part.length
        if left > LEFT * len(part.ids):
            found.append(
                f"the last {left:,} of {len(part.ids):,} tokens for {role} are no whole passage and are left out; shorter "
                "passages (lm,length=…) leave out fewer"
            )
    return found


def _unknown(splits: Mapping[str, Split]) -> list[str]:
    """What is said of characters without a token, of all passages but those that are trained on."""
    found = []
    for role, part in splits.items():
        if role == "train" or not isinstance(part, Passages):
            continue
        strange = unknown_of(part.written_with, sorted(alphabet_of(part.text)))
        if strange:
            count = sum(part.text.count(one) for one in strange)
            found.append(
                f"{count:,} of {len(part.text):,} characters for {role} are none of the tokenizer's and count as unknown"
            )
    return found


def unknown_of(vocabulary: Vocabulary, characters: Sequence[str]) -> list[str]:
    """Those of the characters that are written as the token for what is unknown."""
    unknown = vocabulary.unknown
    if unknown is None:
        return []
    found: Mapping[str, list[int]] = {one: vocabulary.whole(one).tolist() for one in characters}
    return [one for one, ids in found.items() if unknown in ids]
