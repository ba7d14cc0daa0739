"""The record of a binarization, a JSON file beside its model: the course of the job and all that its report shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from wb.compress.binarize.config import BinarizeConfig
from wb.compress.staged.record import StagedRecord
from wb.core.records import Hash


class Binarization(StagedRecord[BinarizeConfig]):
    """The record of a whole binarization."""

    verb = "binarize"
    titles: ClassVar[Mapping[str, str]] = {"hash": Hash.title, "w2": "ternary weights", "w1": "binary weights"}
    reasons: ClassVar[Mapping[str, str]] = {
        "w2": "products with 2-bit weights expand them first",
        "w1": "products with 2-bit weights expand them first",
        "hash": "additions of codes run as ordinary products",
    }
    meant: ClassVar[Mapping[str, str]] = {
        "size": "The file is not smaller",
        "energy": "The modelled energy is not lower",
    }
    tuning = "; the rounding passes gradients straight through"

    kind: Literal["binarization"] = "binarization"
