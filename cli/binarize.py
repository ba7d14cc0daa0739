"""`wb binarize`."""

from __future__ import annotations

from typing import Any

from wb.cli._dry_run import DryRunOption
from wb.cli._options import Offer, options
from wb.cli._shared import BackgroundOption, ForceOption, JsonOption, ModelArgument, OutOption


def _offer() -> Offer:
    from wb.compress.binarize.config import BinarizeConfig

    return Offer(BinarizeConfig)


@options(_offer)
def binarize(
    given: dict[str, Any],
    model: ModelArgument = None,
    out: OutOption = None,
    *,
    background: BackgroundOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a trained transformer binary or ternary weights, hash attention, or both, and fine-tune it with distillation.

    The file and the modelled energy shrink. This runtime has no fast kernels for so few bits; the result says if it is slower.
    Interrupted, the same command with the same --out continues.
    """
    from wb.cli import _binarize
    from wb.cli._job import Asked, chosen

    asked = Asked(model, out, force, dry_run, as_json)
    _binarize.binarize(chosen(given, asked.files, background), asked)
