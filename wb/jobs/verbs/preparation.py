"""Preparation of images for a foreign network: as the options say, or as its own metadata say."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from wb.core.architecture import explain
from wb.core.errors import BadOption
from wb.data.preparation import Preparation, read_preprocessor
from wb.export.foreign.opening import read_metadata
from wb.export.graph import TOKENIZER_KEY, read_architecture
from wb.export.graph import read_preparation as read_stored

OPTIONS = "--mean, --std, --scale and --preprocessor"


def read_preparation(
    mean: str | None, std: str | None, scale: float | None, preprocessor: Path | None
) -> Preparation | None:
    """The preparation that the options describe; None if none is given.

    Raises:
        BadArtefact: the file is no preprocessor file.
        BadOption: values that are no numbers or out of range, or a file and numbers at once.
    """
    given = {
        **({"mean": _numbers(mean, "--mean")} if mean is not None else {}),
        **({"std": _numbers(std, "--std")} if std is not None else {}),
        **({"scale": scale} if scale is not None else {}),
    }
    if preprocessor is not None:
        if given:
            raise BadOption(
                f"--preprocessor and --{next(iter(given))} say the same thing twice; give the file or the numbers"
            )
        return read_preprocessor(preprocessor)
    if not given:
        return None
    try:
        return Preparation.model_validate(given)
    except ValidationError as error:
        raise BadOption(
            f"wrong numbers for the images: {explain(error)}; all are finite, and a std and a scale are above 0"
        ) from error


def of_graph(path: Path, said: Preparation | None) -> Preparation | None:
    """The preparation for the graph at `path`: `said`, or else its own metadata; none for one of the workbench or of texts.

    Raises:
        BadArtefact: no ONNX file, or damaged metadata.
        BadOption: a preparation is given for a graph of the workbench.
    """
    if TOKENIZER_KEY in read_metadata(path):
        if said is not None:
            raise BadOption(f"{OPTIONS} are for networks that take images, and {path} takes texts; leave them out")
        return None
    if read_architecture(path) is None:
        return read_stored(path) if said is None else said
    refuse_for_ours(str(path), said)
    return Preparation()  # a foreign graph made from it gets the same images


def refuse_for_ours(name: str, said: Preparation | None) -> None:
    """Raises `BadOption` if a preparation is given for a network of the workbench, which prepares images itself."""
    if said is not None:
        raise BadOption(
            f"{OPTIONS} are for networks that are not wb's: {name} has its mean and std inside and takes images in [0, 1]; "
            "leave them out"
        )


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadOption(
            f"{option} {text!r} is no list of numbers; give one, or one for each channel: 0.485,0.456,0.406"
        ) from None
