"""`wb prune depth`."""

from __future__ import annotations

from typing import Any

from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, ModelArgument, OutOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption


def _offer() -> Offer:
    from wb.compress.prune.config import DEFAULTS, WITHOUT, PruneConfig

    return Offer(PruneConfig, WITHOUT["depth"], DEFAULTS["depth"])


@options(_offer)
def depth(
    given: dict[str, Any],
    model: ModelArgument = None,
    out: OutOption = None,
    *,
    background: BackgroundOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop whole mixers and feed-forwards until a budget is met, each time the one with the least effect on the output.

    `wb analyze depth` shows those effects. Interrupted, the same command with the same --out continues.
    """
    from wb.cli.frame.running import Asked, chosen
    from wb.cli.pruning.work import prune
    from wb.compress.prune.config import configured

    asked = Asked(model, out, force, dry_run, as_json)
    prune(configured("depth", chosen(given, asked.files, background)), asked)
