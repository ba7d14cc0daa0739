"""`wb prune nvit`."""

from __future__ import annotations

from typing import Any

from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, ModelArgument, OutOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption


def _offer() -> Offer:
    from wb.compress.prune.config import DEFAULTS, WITHOUT, PruneConfig

    return Offer(PruneConfig, WITHOUT["nvit"], DEFAULTS["nvit"])


@options(_offer)
def nvit(
    given: dict[str, Any],
    model: ModelArgument = None,
    out: OutOption = None,
    *,
    background: BackgroundOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prune every axis of a trained transformer at once, by saliency and cost, until a budget is met.

    Interrupted, the same command with the same --out continues.
    """
    from wb.cli.frame.running import Asked, chosen
    from wb.cli.pruning.work import prune
    from wb.compress.prune.config import configured

    asked = Asked(model, out, force, dry_run, as_json)
    prune(configured("nvit", chosen(given, asked.files, background)), asked)
