"""The one door to data sets: `load("digits")`, `load("imagefolder:…")`, `load("idx:…")`, `load("cifar10:…")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wb.core.errors import BadData, BadOption
from wb.data import cifar10, digits, idx, imagefolder
from wb.data.dataset import Dataset, Progress, fingerprint_of
from wb.data.parts import Parts
from wb.data.resize import resized
from wb.data.stratify import choose

MAX_SIDE = 4096


@dataclass(frozen=True)
class _Request:
    place: Path
    image_size: int | None
    progress: Progress | None


READERS: dict[str, Callable[[_Request], Parts]] = {
    "digits": lambda request: digits.read(),
    "imagefolder": lambda request: imagefolder.read(
        request.place, image_size=request.image_size, progress=request.progress
    ),
    "idx": lambda request: idx.read(request.place),
    "cifar10": lambda request: cifar10.read(request.place),
}
_FORMS = "digits, imagefolder:PATH, idx:PATH or cifar10:PATH"


def load(
    spec: str, *, image_size: int | None = None, limit: int | None = None, progress: Progress | None = None
) -> Dataset:
    """The data set that `spec` names, in memory, with all images of one size.

    How a set is split depends on the set alone, never on the seed of a run, so that runs can be compared. `image_size`
    is the side of square images in pixels; without it images keep their size (`wb.data.imagefolder` says what happens
    to folders of mixed sizes). `limit` keeps a stratified subset of at most that many training images for quick runs,
    and the same share of validation; the test split stays whole. The fingerprint is of what is kept. `progress(done,
    total)` is called while an image folder is read.

    Raises:
        BadOption: an unknown form, an impossible size, or a limit below the number of classes.
        BadData: the files are missing, broken, or do not make a data set.

    Limits: everything is held as uint8 in memory; `limit` is applied after reading.
    """
    form, place = _parse(spec)
    _check_sizes(image_size, limit)
    try:
        parts = READERS[form](_Request(place, image_size, progress))
    except OSError as error:
        raise BadData(
            f"{error.filename or place} cannot be read: {error.strerror or error}; check the disk and its permissions"
        ) from error
    if limit is not None:
        parts = _limited(parts, limit, spec)
    if image_size is not None:
        parts = parts._replace(
            train=resized(parts.train, image_size, spec),
            validation=resized(parts.validation, image_size, spec),
            test=resized(parts.test, image_size, spec),
        )
    classes, train, validation, test = parts
    fingerprint = fingerprint_of(classes, train, validation, test)
    name = form if form == "digits" else place.resolve().name
    return Dataset(name, spec, train, validation, test, classes, fingerprint, image_size, limit)


def _parse(spec: str) -> tuple[str, Path]:
    form, colon, place = spec.partition(":")
    if form not in READERS:
        hint = f"; for a folder of images write imagefolder:{spec}" if Path(spec).is_dir() else ""
        raise BadOption(f"data {spec!r} is not a form that is known: expected {_FORMS}{hint}")
    if form == "digits":
        if colon:
            raise BadOption(f"data {spec!r}: the digits come with scikit-learn and have no path; write digits")
        return form, Path()
    if not place:
        raise BadOption(f"data {spec!r} has no path; write {form}:PATH with the folder that holds the files")
    path = Path(place).expanduser()
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise BadData(f"{path} {problem}; {form} needs the folder that holds the files")
    return form, path


def _check_sizes(image_size: int | None, limit: int | None) -> None:
    if image_size is not None and not 1 <= image_size <= MAX_SIDE:
        raise BadOption(f"image_size={image_size} is out of range; choose 1 to {MAX_SIDE} pixels")
    if limit is not None and limit < 1:
        raise BadOption(f"limit={limit} keeps no image; choose 1 or more, or leave it out for all")


def _limited(parts: Parts, limit: int, spec: str) -> Parts:
    known = len(set(parts.train.labels.tolist()))
    if limit < known:
        raise BadOption(f"limit={limit} is below the {known} classes of {spec}; choose at least {known}")
    if limit >= len(parts.train):
        return parts
    share = limit / len(parts.train)
    return parts._replace(
        train=parts.train.take(choose(parts.train.labels, limit)),
        validation=parts.validation.take(choose(parts.validation.labels, round(len(parts.validation) * share))),
    )
