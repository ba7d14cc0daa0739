"""A vocabulary of pieces with scores, as llama2.c exports that of SentencePiece, as a tokenizer of the library `tokenizers`.

Source: llama2.c, `tokenizer.py` and `run.c` (encode): the pair of neighbours is joined whose whole has the best score.
Differs: merges are listed by the score of what they make, so that of two ways to make one piece the first listed goes first.
Limits: bytes of pieces that are written as characters, as in `tok512.json`, are read as UTF-8 where they are that.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, processors

from wb.core.errors import BadArtefact, printable, reason

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPACE = "\u2581"  # how SentencePiece writes a space
_MOST = 1 << 20


def tokenizer_of_pieces(text: str, path: Path) -> str:
    """The JSON of the tokenizer of a list of `[piece, score]`: unknown, begin, end, 256 bytes, and then what they are joined to.

    A text begins with the token of the beginning and with a space. Raises `BadArtefact` for anything else.
    """
    pieces = _pieces(text, path)
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    order = sorted(range(len(pieces)), key=lambda i: -pieces[i][1])
    merges = [
        (piece[:cut], piece[cut:])
        for piece in (pieces[i][0] for i in order)
        if piece not in (BEGIN, END, UNKNOWN)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    found = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True))
    found.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    strip = decoders.Strip(" ", 1, 0)
    found.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    found.add_special_tokens([UNKNOWN, BEGIN, END])
    found.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, ids[BEGIN])]
    )
    return str(found.to_str())


def _pieces(text: str, path: Path) -> list[tuple[str, float]]:
    try:
        content: Any = json.loads(text)
        found = [(_piece(str(piece)), float(score)) for piece, score in content]
    except (ValueError, TypeError, RecursionError) as error:
        raise BadArtefact(
            f"{path} is no list of pieces with scores, as llama2.c exports them ({printable(reason(error), 200)}); copy it again"
        ) from error
    named = {piece for piece, _ in found}
    if not 2 < len(found) <= _MOST or len(named) < len(found) or not {BEGIN, END, UNKNOWN} <= named:
        raise BadArtefact(
            f"{path} has {len(found):,} pieces, {len(named):,} of which differ; expected {UNKNOWN}, {BEGIN}, {END} and others, "
            "each once"
        )
    return found


def _piece(written: str) -> str:
    """A piece as SentencePiece has it."""
    plain = written.strip("\n") if written.strip("\n") in (BEGIN, END) else written
    with suppress(ValueError):  # what is no UTF-8 are characters as they are
        plain = plain.encode("latin-1").decode("utf-8")
    return plain.replace(" ", SPACE)
