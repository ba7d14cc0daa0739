"""What networks do not see of texts, by the vocabulary that these are written with, as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wb.data.split import Split
from wb.data.texts.passages import Passages
from wb.data.texts.split import Texts
from wb.data.texts.vocabulary import Vocabulary, alphabet_of


def gaps(train: Split, validation: Split, test: Split) -> tuple[str, ...]:
    """A sentence for each split with texts that are cut, or with characters that the vocabulary has no token for.

    What is cut of several texts in one file stands in the note of their perplexity.
    """
    found: list[str | None] = []
    for role, split in (("train", train), ("validation", validation), ("test", test)):
        if isinstance(split, Texts):
            found.append(_cut(role, split))
        elif isinstance(split, Passages) and role != "train":
            found.append(_unknown(role, split))
    return tuple(note for note in found if note)


def _cut(role: str, part: Texts) -> str | None:
    vocabulary = part.written_with
    count = vocabulary.cut(part.lines.tolist())
    if not count:
        return None
    return f"{count:,} of {len(part):,} texts for {role} are longer than {vocabulary.length} tokens: the rest is cut"


def _unknown(role: str, part: Passages) -> str | None:
    strange = unknown_of(part.written_with, sorted(alphabet_of(part.text)))
    if not strange:
        return None
    count = sum(part.text.count(one) for one in strange)
    return f"{count:,} of {len(part.text):,} characters for {role} are none of the tokenizer's and count as unknown"


def unknown_of(vocabulary: Vocabulary, characters: Sequence[str]) -> list[str]:
    """Those of the characters that are written as the token for what is unknown."""
    unknown = vocabulary.unknown
    if unknown is None:
        return []
    found: Mapping[str, list[int]] = {one: vocabulary.whole(one).tolist() for one in characters}
    return [one for one, ids in found.items() if unknown in ids]
