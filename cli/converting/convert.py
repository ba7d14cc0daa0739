"""`wb convert`."""

from __future__ import annotations

from typing import Any

from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, ModelArgument, OutOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption


def _offer() -> Offer:
    from wb.compress.convert.config import ConvertConfig

    return Offer(ConvertConfig)


@options(_offer)
def convert(
    given: dict[str, Any],
    model: ModelArgument = None,
    out: OutOption = None,
    *,
    background: BackgroundOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a trained transformer other mixers, batch norms instead of layer norms, or a sum of its paths, and repair it.

    Each new mixer is taught by itself to give what was there; then the whole is fine-tuned with the original as teacher.
    Interrupted, the same command with the same --out continues.
    """
    from wb.cli.converting import convert_work
    from wb.cli.frame.running import Asked, chosen

    asked = Asked(model, out, force, dry_run, as_json)
    convert_work.convert(chosen(given, asked.files, background), asked)
