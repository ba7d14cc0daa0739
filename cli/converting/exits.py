"""`wb exits`."""

from __future__ import annotations

from typing import Any

from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, ModelArgument, OutOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption


def _offer() -> Offer:
    from wb.compress.exits.config import ExitsConfig

    return Offer(ExitsConfig)


@options(_offer)
def exits(
    given: dict[str, Any],
    model: ModelArgument = None,
    out: OutOption = None,
    *,
    background: BackgroundOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let easy images leave a trained network early: heads after some blocks, and gates that choose among them.

    Of a model that has exits already the gates alone are trained anew, for another --beta. Interrupted, the same command with
    the same --out continues.
    """
    from wb.cli.converting import exits_work
    from wb.cli.frame.running import Asked, chosen

    asked = Asked(model, out, force, dry_run, as_json)
    exits_work.exits(chosen(given, asked.files, background), asked)
