"""Text that comes from files, made fit to be shown: it must not steer a terminal, nor break an encoding."""

from __future__ import annotations

import re

# Control characters but for the end of a line and the tab, halves of surrogate pairs (bytes of a name that are no UTF-8), and
# what turns the direction of writing: with these, a file name could rewrite what stands beside it.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with every character that is unfit replaced by `�`; as long as before."""
    return _UNFIT.sub("\ufffd", text)


def paragraph(text: str) -> str:
    """`text` as one paragraph that is fit to be printed, whatever a name in it holds."""
    return printable(" ".join(part.strip() for part in text.splitlines() if part.strip()))
