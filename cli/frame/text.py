"""Untrusted text made printable: it must not control a terminal nor break an encoding."""

from __future__ import annotations

import re

# Control characters except newline and tab, lone surrogates (bytes of a name that is not UTF-8), and characters that change
# the direction of writing: with these, a file name could rewrite the text beside it.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with every unprintable character replaced by `�`; its length stays."""
    return _UNFIT.sub("\ufffd", text)


def paragraph(text: str) -> str:
    """`text` as one printable paragraph, whatever names it contains."""
    return printable(" ".join(part.strip() for part in text.splitlines() if part.strip()))
