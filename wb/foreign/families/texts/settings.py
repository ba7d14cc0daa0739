"""What configurations of networks that take texts have in common."""

from __future__ import annotations

from collections.abc import Mapping

from wb.core.errors import BadArtefact, Unsupported, printable
from wb.core.records import TextInput
from wb.foreign.family import Seen

LONGEST = 1 << 15  # tokens of a text, at most
MOST_ROWS = 1 << 20  # of a table of tokens
USUAL = 128  # tokens that counts and latencies are of, where a text may have as many
HOW_LONG = "max_position_embeddings"


def text_input(seen: Seen, places: int) -> TextInput:
    """Texts of a vocabulary as large as config.json says, of at most so many tokens."""
    length = min(places, LONGEST)
    if length < places:
        seen.notes.append(f"texts have at most {length:,} tokens, though its configuration says {places:,}")
    rows = seen.whole("vocab_size", most=MOST_ROWS)
    return TextInput(vocabulary=rows, length=length, tokens=min(USUAL, length))


def places_of(length: int, came: object) -> int:
    """The longest text in a config.json: what `came`, where that is read as this length."""
    return came if isinstance(came, int) and min(came, LONGEST) == length else length


def divided(whole: int, parts: int, what: str, by: str) -> int:
    """`whole` / `parts`. Raises `BadArtefact` if that is no whole number."""
    if whole % parts:
        raise BadArtefact(f"config.json has {what}={whole} and {by}={parts}; expected a divisor of it")
    return whole // parts


def plainly(seen: Seen, needed: Mapping[str, tuple[object, ...]], why: str) -> None:
    """Raises `Unsupported` for a setting that is there and none of those that networks of wb have."""
    for key, values in needed.items():
        found = seen.config.get(key, values[0])
        if found not in values:
            raise Unsupported(f"config.json has {key}={printable(repr(found)[:200], 60)}: {why}")


def tied(seen: Seen) -> bool:
    """Whether the head reads the table of the embeddings: as config.json says, else whether the files have no other head."""
    said = seen.config.get("tie_word_embeddings")
    return said if isinstance(said, bool) else "lm_head.weight" not in seen.shapes
