"""`wb import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import ForceOption, JsonOption, MeanOption, PreprocessorOption, ScaleOption, StdOption


def import_checkpoint(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of Hugging Face or timm, a name on the hub, or a state dict (.safetensors, .pt, .pth, .bin)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write.")],
    heads: Annotated[
        int | None,
        typer.Option(min=1, help="Heads of each block, where the shapes do not tell.", show_default="what it says"),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="Activation of hidden units: gelu, gelu_tanh, relu, relu2 or silu.", show_default="what is usual there"
        ),
    ] = None,
    eps: Annotated[
        float | None,
        typer.Option(help="What its layer norms add to a variance.", show_default="what is usual there"),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="What the classifier reads: first, the class token, or mean.", show_default="what is usual there"
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of its images, for networks that take images of any size.", show_default="what it says"
        ),
    ] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Say how it scores on validation images of these data, and how it would if what its files do not say "
            "(activation, mean, deviation) were otherwise.",
            show_default="none",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare/--no-compare", help="Compare logits on random inputs with its library's, if that is installed."
        ),
    ] = True,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a model of another library exactly, and write it as a model file.

    Every command also takes such a source itself, where nothing has to be said of it. `wb export --to source` hands it back.
    """
    from wb.foreign.given import given_of
    from wb.jobs.verbs.importing import import_file
    from wb.jobs.verbs.preparation import read_preparation

    images = read_preparation(mean, std, scale, preprocessor)
    given = given_of(heads=heads, activation=activation, eps=eps, pool=pool, image_size=image_size, images=images)
    found = import_file(source, out, given, compare=compare, force=force, data=data)
    for text in found.notes:
        output.say(text)
    if as_json:
        output.print_json(found.content() | {"model": str(out)})
        return
    for line in found.lines:
        output.data.print(line, soft_wrap=True)
    output.written(out)
