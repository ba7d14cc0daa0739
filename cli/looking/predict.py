"""`wb predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import (
    JsonOption,
    MeanOption,
    PreprocessorOption,
    RunLimitOption,
    ScaleOption,
    StdOption,
)


def predict(
    model: Annotated[Path, typer.Argument(help="A model file of wb's, or any ONNX file that classifies pictures.")],
    pictures: Annotated[
        list[str], typer.Argument(help="Pictures, or folders of them; or texts, or files of texts (.txt).")
    ],
    *,
    top: Annotated[int, typer.Option(min=1, help="Classes to show of each picture, the most probable first.")] = 3,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            help="What transparent pictures are laid on: white, black or #rrggbb.",
            show_default="that of the data it was trained with, else white",
        ),
    ] = None,
    truncate: Annotated[
        bool,
        typer.Option(
            "--truncate",
            help="Of texts that are longer than the network reads take the beginning, and say how many; they are refused "
            "otherwise.",
        ),
    ] = False,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    run_limit: RunLimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name the classes of pictures or texts, with probabilities.

    Pictures of another size are scaled and cropped to the centre. Probabilities are the softmax of the network's scores.
    """
    from wb.cli.frame.running import telling
    from wb.jobs.verbs.predicting import Predicting
    from wb.jobs.verbs.preparation import read_preparation

    images = read_preparation(mean, std, scale, preprocessor)
    with output.progress() as work:
        predicting = Predicting(top, background, images, run_limit, truncate)
        found = predicting(model, list(pictures), telling(work, "reading"))
    if as_json:
        output.print_json(found.content())
        return
    output.data.print(output.table(found.table()))
