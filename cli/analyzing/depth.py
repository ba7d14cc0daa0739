"""`wb analyze depth`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, ModelArgument
from wb.cli.frame.options import Offer, options

if TYPE_CHECKING:
    from wb.compress.depth.analysis import DepthAnalysis
    from wb.core.commands.progress import Progress
    from wb.data import Dataset
    from wb.models.model import Model


GLOSS = (
    "‖c‖/‖h‖: contribution c of a sub-layer (a mixer or a feed-forward), relative to the stream h that it is added to",
    "cos(c,h): their cosine; below 0 the sub-layer erases, about 0 it writes something new, above 0 it reinforces",
    "later change: mean relative change of later sub-layers' contributions without this one",
    "KL: change of the probabilities without it, in nats (0: none); accuracy, or nat a token: that without it",
)


def _offer() -> Offer:
    from wb.compress.depth.config import AnalyzeConfig

    return Offer(AnalyzeConfig)


@options(_offer)
def depth(
    given: dict[str, Any],
    model: ModelArgument = None,
    *,
    background: BackgroundOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("depth.html"),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what each mixer and feed-forward contributes, and how the output changes without it."""
    import torch

    from wb.cli.frame import running
    from wb.compress.depth.config import AnalyzeConfig
    from wb.compress.depth.report import About, write_depth_report
    from wb.core.errors import BadOption
    from wb.jobs.frame.output import config_of
    from wb.jobs.inputs import choose, given_data
    from wb.jobs.reading import read

    config = config_of(AnalyzeConfig, "analyze depth", given)
    split, seed = config.split, config.seed
    if split not in ("validation", "train"):
        raise BadOption(f"no split {split!r} here; there are validation and train (test is for final numbers only)")
    if out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name with --out or say --force to replace it")
    files = [model] if model else []
    spec = given_data(config.data, background)
    choice = choose(files, spec, config.image_size, say=output.say, truncate=config.truncate)
    torch.set_num_threads(config.threads)
    with output.progress() as progress:
        told = running.telling(progress, "reading the data")
        chosen, dataset = read(model, choice, seed, told, say=output.say, by_index=config.by_index)
        analysis = _analyze(chosen, dataset, split, config.limit, told)
    about = About(
        model=model.name if model else f"the stock model, seed {seed}",
        data=dataset.spec,
        split=split,
        settings={"data": {"fingerprint": dataset.fingerprint}, "model": {"architecture": chosen.architecture.key}},
    )
    write_depth_report(analysis, about, out, force=force)
    if as_json:
        output.print_json({"report": str(out)} | analysis.model_dump(mode="json"))
        return
    _print(analysis, about.model, split)
    output.written(out)


def _analyze(model: Model, dataset: Dataset, split: str, limit: int, progress: Progress) -> DepthAnalysis:
    from wb.compress.depth.analysis import analyze_depth
    from wb.tasks.suited import check_fits
    from wb.training.fit import pick_device

    check_fits(model.architecture, dataset)
    what = "leaving out sub-layers"
    progress(what, 0, 0)
    images = dataset.validation if split == "validation" else dataset.train
    return analyze_depth(
        model, images, limit=limit, device=pick_device(), report=lambda done, of: progress(what, done, of)
    )


def _print(analysis: DepthAnalysis, name: str, split: str) -> None:
    """Prints the quality of the whole model, then a table of sub-layers that fits 80 columns."""
    from rich.table import Table
    from rich.text import Text

    from wb.compress.depth.report import result

    measured = f"{analysis.quality.text()}, measured on {analysis.images} {analysis.noun} of {split}"
    measured = f"accuracy {measured}" if analysis.measure == "accuracy" else measured
    note = f"; {analysis.quality.note}" if analysis.quality.note else ""
    output.data.print(Text(f"{name}: {measured}{note}"), soft_wrap=True)
    table = Table()
    for column in (
        "sub-layer",
        "operator",
        "‖c‖/‖h‖",
        "cos(c,h)",
        "later\nchange",
        "KL",
        analysis.title.replace(" ", "\n", 1),
    ):
        table.add_column(column, justify="left" if column in ("sub-layer", "operator") else "right", no_wrap=True)
    for row in analysis.sublayers:
        change = "–" if row is analysis.sublayers[-1] else f"{row.later_mean:.3g}"
        shown = (f"{row.ratio:.3g}", f"{row.cosine:.2f}", change, f"{row.output.kl:.3g}")
        left = row.output.quality
        table.add_row(
            row.name, row.operator, *shown, f"{100 * left:.2f} %" if analysis.measure == "accuracy" else f"{left:.4g}"
        )
    output.data.print(table)
    for line in GLOSS:
        output.data.print(Text(line), soft_wrap=True)
    output.data.print(Text(result(analysis)), soft_wrap=True)
