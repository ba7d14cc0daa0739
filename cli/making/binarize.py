"""`wb binarize`."""

from __future__ import annotations

from typing import Any

from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, ModelArgument, OutOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption


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
    from wb.cli.frame.running import Asked, chosen
    from wb.cli.making import binarize_work

    asked = Asked(model, out, force, dry_run, as_json)
    binarize_work.binarize(chosen(given, asked.files, background), asked)
