"""`wb fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, OutOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption


def _offer() -> Offer:
    from wb.fusion.job.config import FuseConfig

    return Offer(FuseConfig, without=("settings.ridge",))


@options(_offer)
def fuse(
    given: dict[str, Any],
    models: Annotated[
        list[Path] | None,
        typer.Argument(help="Two or more model files.", show_default="two stock models, trained on first use"),
    ] = None,
    out: OutOption = None,
    *,
    background: BackgroundOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether and how; write nothing.")] = False,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Align trained transformers of one task and average them into one.

    Without data nothing is corrected or measured. Interrupted, the same command with the same --out continues.
    """
    from wb.cli.frame import output
    from wb.cli.making import fuse_work
    from wb.core.errors import BadOption
    from wb.fusion.job.given import choose_data, configured

    files = models or []
    config = configured(choose_data(given, files, background, output.say), files)
    to = given.get("to")
    if check and dry_run:
        raise BadOption("--dry-run says all that --check does; leave out one of them")
    if check:
        if out is not None or force:
            raise BadOption("--check writes nothing; leave out --out and --force")
        fuse_work.check(config, files, as_json=as_json)
    else:
        (fuse_work.plan if dry_run else fuse_work.run)(config, files, to, out, force=force, as_json=as_json)
