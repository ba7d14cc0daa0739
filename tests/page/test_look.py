"""Colours of categories: enough for every kind of part, told apart by eye, and readable under white letters."""

from __future__ import annotations

from itertools import combinations

import pytest

from wb.core.records import FFNS, MERGES, MIXERS
from wb.page.look import MANY

CARD = "#262d38"  # of a dark page


def linear(colour: str) -> tuple[float, float, float]:
    """Red, green and blue of light."""
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it, 1 to 21."""
    luminances = [0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05 for r, g, b in map(linear, (one, other))]
    return max(luminances) / min(luminances)


def perceived(colour: str) -> tuple[float, float, float]:
    """In OKLab (Ottosson, 2020), where equal distances look equal."""
    r, g, b = linear(colour)
    long = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ** (1 / 3)
    middle = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ** (1 / 3)
    short = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def test_there_is_one_for_every_kind_of_part() -> None:
    assert len(set(MANY)) >= max(len(MIXERS), len(FFNS), len(MERGES))


def test_any_two_are_told_apart() -> None:
    """Twice as far as what is just noticed."""
    for one, other in combinations(MANY, 2):
        apart = sum((a - b) ** 2 for a, b in zip(perceived(one), perceived(other), strict=True)) ** 0.5
        assert apart > 0.04, (one, other)


@pytest.mark.parametrize("colour", MANY)
def test_white_letters_and_dark_pages_show_it(colour: str) -> None:
    assert contrast(colour, "#ffffff") >= 3
    assert contrast(colour, CARD) >= 1.3
