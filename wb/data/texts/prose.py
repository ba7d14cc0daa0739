"""The reader of plain text: files, or the documentation of Python's standard library, in passages.

One file is cut by position: the last tenth is for the test, and pieces from everywhere in the rest, a twentieth of all, are for
validation. They are spread because neighbours are alike: what stands just before the test is what training needs most, and a
twentieth from one place tells little of the whole. Of two files the first is for training and the second for the test; of three
the second is for validation. Files are UTF-8. Where something stands `between` several texts of a file, each is one by itself,
and none is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wb.core.errors import BadData, BadOption, Unsupported
from wb.data.readers.parts import Parts
from wb.data.spec import Spec, with_truncation
from wb.data.texts.passages import Passages
from wb.data.texts.tables import ROLES, length_of, read_utf8
from wb.data.texts.vocabulary import BPE, CHARACTERS, Vocabulary, alphabet_of, vocabulary_of

VALIDATION, TEST = 0.05, 0.1  # shares of one text
PIECES, LEAST = 16, 2_000  # so many pieces for validation, of so many characters at least, are spread over a text
LENGTH = 128  # tokens of a passage, where nothing else is said
FEW = 200  # characters of an alphabet that are tokens themselves, where nothing else is said
ENOUGH = 20  # passages that judge, below which a note says how few they are
EMBEDDED = "Python's own documentation"


def read(spec: Spec, places: Sequence[Path]) -> Parts:
    """Reads the texts at `places`, or the embedded one without any, with the tokenizer and the length of `spec.choices`.

    Raises:
        BadOption: too many files, or a length that is none.
        BadArtefact: the tokenizer cannot be read.
        BadData: a file is no text, or too short.
    """
    choices = dict(spec.choices)
    if len(places) > len(ROLES):
        raise BadOption(f"data {spec.text()!r} name {len(places)} files; give one, training and test, or all three")
    if places:
        named = zip(ROLES[len(places)], places, strict=True)
        texts = {role: (path.name, read_utf8(path, "a text")) for role, path in named}
    else:
        texts = {"train": (EMBEDDED, _documentation())}
    between = choices.get("between")
    if spec.truncates:
        with_truncation(spec.text())  # refuses it where it would do nothing
    texts = _divided(texts, between)
    vocabulary = _vocabulary(texts["train"][1], choices, length_of(choices, spec) or LENGTH, truncate=spec.truncates)
    found = {
        role: Passages.of(text, vocabulary, f"the text for {role}, {name},", between)
        for role, (name, text) in texts.items()
    }
    sources = (texts["train"][0], texts["validation"][0], texts["test"][0])
    few = _few(found, ("validation", "test"))
    return Parts((), found["train"], found["validation"], found["test"], () if few is None else (few,), sources)


def _documentation() -> str:
    """The topics that `help()` explains, in the order of their names."""
    try:
        from pydoc_data.topics import topics  # only data that are asked for are loaded
    except ImportError as error:
        raise Unsupported(
            "this Python has no documentation of its own (the module pydoc_data); give a text with --data lm:FILE"
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


def _divided(texts: Mapping[str, tuple[str, str]], between: str | None) -> dict[str, tuple[str, str]]:
    """Texts for all three splits; what is missing is cut from the training text, whole texts where something is `between`."""
    found, (name, rest) = dict(texts), texts["train"]
    whole = len(rest)
    if "test" not in found:
        at = len(rest) - round(TEST * whole)
        at = at if between is None else max(0, rest.rfind(between, 0, at))
        found["test"], rest = (f"the end of {name}", rest[at:]), rest[:at]
    if "validation" not in found:
        piece, rest = _spread(rest, round(VALIDATION * whole)) if between is None else _some(rest, between)
        found["validation"] = (f"pieces of {name}", piece)
    return found | {"train": (name, rest)}


def _spread(text: str, size: int) -> tuple[str, str]:
    """`size` characters in pieces from the middles of equal parts of `text`, and what is left of it."""
    count = max(1, min(PIECES, size // LEAST))
    length = size // count
    starts = [len(text) * (2 * i + 1) // (2 * count) - length // 2 for i in range(count)]
    ends = [0, *(start + length for start in starts)]
    rest = "".join(text[end:start] for end, start in zip(ends, [*starts, len(text)], strict=True))
    return "".join(text[start : start + length] for start in starts), rest


def _some(text: str, between: str) -> tuple[str, str]:
    """One of every eighteen texts, at least one of two letters where there is any, and the others."""
    each = [one for one in text.split(between) if len(one.strip()) > 1]
    step = max(1, min(len(each), round((1 - TEST) / VALIDATION)))
    parts = [[one for i, one in enumerate(each) if (i % step == step // 2) == chosen] for chosen in (True, False)]
    some, rest = (between.join(part) for part in parts)
    return some, rest


def _vocabulary(text: str, choices: Mapping[str, str], length: int, *, truncate: bool) -> Vocabulary:
    if not text:
        raise BadData("the text for training is empty; give a file with some")
    kind = choices.get("tokenizer") or (CHARACTERS if len(alphabet_of(text)) <= FEW else BPE)
    return vocabulary_of([text], kind, length, prose=True, truncate=truncate)


def _few(found: Mapping[str, Passages], roles: Sequence[str]) -> str | None:
    """A sentence where the texts that judge have so few passages that they tell little."""
    counts = [f"{len(found[role])} for {role}" for role in roles if len(found[role]) < ENOUGH]
    if not counts:
        return None
    return (
        f"there are only {' and '.join(counts)} of the passages of {found[roles[0]].length} tokens: a perplexity of fewer than "
        f"{ENOUGH} says little; give a longer text, or shorter passages with lm,length=…"
    )
