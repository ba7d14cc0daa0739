"""`wb analyze attention`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption
from wb.cli.frame.options import Offer, options

if TYPE_CHECKING:
    from wb.core.commands.progress import Progress
    from wb.jobs.attention.analysis import AttentionAnalysis
    from wb.jobs.attention.config import AttentionConfig


def _offer() -> Offer:
    from wb.jobs.attention.config import AttentionConfig

    return Offer(AttentionConfig)


@options(_offer)
def attention(
    given: dict[str, Any],
    model: Annotated[Path, typer.Argument(help="A model file, or the folder that `wb train --keep-checkpoints` left.")],
    *,
    background: BackgroundOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("attention.html"),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show how concentrated each head's attention is, by layer and token; over training, which heads froze when."""
    import torch

    from wb.cli.frame import running
    from wb.core.errors import BadOption
    from wb.jobs.attention.config import AttentionConfig
    from wb.jobs.attention.report import table, write_report
    from wb.jobs.frame.output import config_of

    config = config_of(AttentionConfig, "analyze attention", given)
    if config.split not in ("validation", "train"):
        raise BadOption(
            f"no split {config.split!r} here; there are validation and train (test is for final numbers only)"
        )
    if out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name with --out or say --force to replace it")
    torch.set_num_threads(config.threads)
    with output.progress() as progress:
        analysis, data = _analyzed(config, model, background, running.telling(progress, "reading the data"))
    settings = {"analysis": config.model_dump(mode="json")}
    write_report(analysis, model.name, data, out, settings, force=force)
    if as_json:
        output.print_json({"report": str(out)} | analysis.model_dump(mode="json"))
        return
    output.data.print(
        output.table(table(analysis, f"{model.name}: {analysis.examples} {analysis.noun} of {config.split}, measured"))
    )
    output.written(out)


def _analyzed(
    config: AttentionConfig, model: Path, background: str | None, progress: Progress
) -> tuple[AttentionAnalysis, str]:
    """The analysis, and the name of the data."""
    from wb.foreign.reading import load
    from wb.jobs.attention.analysis import analyze_attention
    from wb.jobs.inputs import choose, given_data
    from wb.jobs.reading import read
    from wb.training.kept import kept_in

    folder = model.is_dir() and not (model / "config.json").is_file()
    files = kept_in(model) if folder else [model]
    spec = given_data(config.data, background)
    choice = choose(files[-1:], spec, config.image_size, say=output.say, truncate=config.truncate)
    last, data = read(files[-1], choice, config.seed, progress, say=output.say, by_index=config.by_index)
    models = [*(load(path) for path in files[:-1]), last]
    what = "looking at attention"
    progress(what, 0, 0)
    analysis = analyze_attention(
        models,
        [int(path.stem) for path in files] if folder else [0],
        data.validation if config.split == "validation" else data.train,
        limit=config.limit,
        still=config.still,
        report=lambda done, of: progress(what, done, of),
    )
    return analysis, data.spec
