"""Loading data sets: `load("digits")`, `load("imagefolder:…")`, `load("idx:…")`, and the other forms in `READERS`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wb.core.errors import BadData, BadOption
from wb.core.system.files import absolute, irregular
from wb.data.colours import greyed
from wb.data.dataset import Dataset, Progress, blank, fingerprint_of
from wb.data.readers import cifar10, digits, hub, idx, imagefolder, npz
from wb.data.readers.parts import Parts
from wb.data.resize import resized
from wb.data.spec import ARRAYS, CSV, EMBEDDED, FEATURES, FOLDERS, JSONL, LISTOPS, LM, TABLES, Spec
from wb.data.split import Images
from wb.data.stratify import choose

MAX_SIDE = 4096


@dataclass(frozen=True)
class _Request:
    spec: Spec
    place: Path
    image_size: int | None
    progress: Progress | None


READERS: dict[str, Callable[[_Request], Parts]] = {
    "digits": lambda request: digits.read(),
    "imagefolder": lambda request: imagefolder.read(
        request.place, image_size=request.image_size, background=request.spec.background, progress=request.progress
    ),
    "idx": lambda request: idx.read(request.place),
    "cifar10": lambda request: cifar10.read(request.place),
    "npz": lambda request: npz.read(request.place, features=request.spec.features),
    **dict.fromkeys(TABLES, lambda request: _tables(request)),
    LISTOPS: lambda request: _listops(request.spec),
    LM: lambda request: _prose(request),
    "hf": lambda request: hub.read(request.spec, image_size=request.image_size, progress=request.progress),
}
_log = logging.getLogger(__name__)
_SHOWN = 5
FORMS = "digits, imagefolder:PATH, idx:PATH, cifar10:PATH, npz:FILE, hf:PLACE, csv:FILES, jsonl:FILES, listops, lm:FILES or lm"


def load(
    spec: str,
    *,
    image_size: int | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
    own_words: bool = True,
    looking: bool = False,
) -> Dataset:
    """The data set that `spec` names, in memory, with all images of one size.

    The split depends on the data set alone, never on the seed of a run, so that runs can be compared. `image_size` is the side
    of square images in pixels; without it images keep their size (`wb.data.readers.imagefolder` says what happens to folders of
    mixed sizes). `limit` keeps a stratified subset of at most that many training images for quick runs, and the same share of
    validation images; the test split stays whole. The fingerprint is of the images that are kept. `progress(done, total)` is
    called while an image folder is read. Images that were left out or resized, and classes missing in a split, are described in
    the data set's `notes` and logged as warnings; so is what networks do not see of texts, unless `own_words` is false,
    because the texts will be written with the vocabulary of a model (`Dataset.written_by`), and there be refused where they
    are longer than it reads and `spec` does not say that they are truncated. Who is only `looking` gets texts that are too long
    too, with a note; no network can be given them.

    Raises:
        BadOption: an unknown form, an impossible size, or a limit below the number of classes.
        BadData: the files are missing, broken, or do not make a data set, or texts are too long.

    Limits: everything but features is held as uint8 in memory; `limit` is applied after reading.
    """
    asked, place = _parse(spec)
    _check_sizes(image_size, limit)
    if image_size is not None and (asked.features or asked.form in (*TABLES, LISTOPS, LM)):
        what = f"says that its values are {FEATURES}" if asked.features else "has texts"
        raise BadOption(f"image_size={image_size} is for images, and {spec} {what}; leave one out")
    try:
        parts = READERS[asked.form](_Request(asked, place, image_size, progress))
    except OSError as error:
        raise BadData(
            f"{error.filename or place} cannot be read: {error.strerror or error}; check the disk and its permissions"
        ) from error
    if limit is not None:
        parts = _limited(parts, limit, spec)
    if asked.grey:
        train, validation, test = (greyed(split) for split in (parts.train, parts.validation, parts.test))
        parts = parts._replace(train=train, validation=validation, test=test)
    if image_size is not None:
        parts = parts._replace(
            train=resized(parts.train, image_size, spec),
            validation=resized(parts.validation, image_size, spec),
            test=resized(parts.test, image_size, spec),
        )
    classes, train, validation, test, _, sources = parts
    fingerprint = fingerprint_of(classes, train, validation, test)
    name = (
        place.name
        if asked.on_the_hub
        else asked.form
        if asked.form in EMBEDDED or not asked.place
        else absolute(place).name
    )
    notes = (*parts.notes, *(_gaps(parts, asked, looking) if own_words else ()), *_missing(parts), *_blank(parts))
    for note in notes:  # logged before checks, as they may explain a refusal
        _log.warning(note)
    return Dataset(name, spec, train, validation, test, classes, fingerprint, image_size, limit, notes, sources)


def _tables(request: _Request) -> Parts:
    from wb.data.texts import tables  # imports a library that only texts need

    places = [Path(one) if not one.startswith("~") else absolute(one) for one in request.spec.places]
    return tables.read(request.spec, places)


def _listops(spec: Spec) -> Parts:
    from wb.data.texts import listops  # imports a library that only texts need

    return listops.read(truncate=spec.truncates)


def _prose(request: _Request) -> Parts:
    from wb.data.texts import prose  # imports a library that only texts need

    given = request.spec.places if request.spec.place else ()
    return prose.read(request.spec, [Path(one) if not one.startswith("~") else absolute(one) for one in given])


def _gaps(parts: Parts, spec: Spec, looking: bool) -> tuple[str, ...]:
    if parts.train.vocabulary is None:
        return ()
    from wb.data.texts.gaps import gaps  # imports a library that only texts need

    looking = looking and spec.form != LM  # which nobody can look at further
    return gaps(parts.train, parts.validation, parts.test, own=spec.form, looking=looking)


def _missing(parts: Parts) -> list[str]:
    """Notes on classes that have no image in a split."""
    notes: list[str] = []
    if not parts.classes:
        return notes
    for name, split in (("training", parts.train), ("validation", parts.validation), ("test", parts.test)):
        counts = np.bincount(split.labels, minlength=len(parts.classes))
        absent = [label for label, count in zip(parts.classes, counts, strict=True) if not count]
        if absent and len(split):
            shown = ", ".join(absent[:_SHOWN]) + (f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else "")
            notes.append(
                f"the {name} split has no {split.noun} of {len(absent)} of {len(parts.classes)} classes: {shown}"
            )
    return notes


def _blank(parts: Parts) -> list[str]:
    count = blank(parts.train) if isinstance(parts.train, Images) else 0
    return [f"{count:,} of {len(parts.train):,} training images have one colour throughout"] if count else []


def _parse(text: str) -> tuple[Spec, Path]:
    """A specification, and the place that it names."""
    spec = Spec.parse(text)
    if spec.form not in READERS:
        raise BadOption(f"data {text!r} is not a form that is known: expected {FORMS}{_hint(text)}")
    if spec.form in EMBEDDED:
        if ":" in text:
            whence = "come with scikit-learn" if spec.form == "digits" else "are generated"
            raise BadOption(f"data {text!r}: the {spec.form} {whence} and have no path; write {spec.form}")
        return spec, Path()
    if spec.form == LM and not spec.place:
        return spec, Path()
    if not spec.place:
        kinds = {ARRAYS: "file that holds the arrays", **dict.fromkeys(TABLES, "file, or files, of texts and labels")}
        what = kinds.get(spec.form, "folder that holds the files")
        raise BadOption(f"data {text!r} has no path; write {spec.form}:PATH with the {what}")
    path = Path(spec.place) if not spec.place.startswith("~") else absolute(spec.place)
    if spec.form in (*TABLES, LM):
        return spec, Path(spec.places[0])
    if spec.form == ARRAYS:
        npz.check(path)
    elif not path.is_dir() and not spec.on_the_hub:
        problem = irregular(path) or "is a file"
        raise BadData(f"{path} {problem}; {spec.form} needs the folder that holds the files")
    return spec, path


def _hint(text: str) -> str:
    """What a path without a form may be meant as."""
    if Path(text).is_dir():
        return f"; for a folder of images write {FOLDERS}:{text}"
    ending = Path(text.partition(",")[0]).suffix
    if ending in (".csv", ".tsv", ".jsonl"):
        return f"; for a table of texts write {JSONL if ending == '.jsonl' else CSV}:{text}"
    if ending == ".txt":
        return f"; for a text write {LM}:{text}"
    return f"; for an archive of arrays write npz:{text}" if Path(text).suffix == ".npz" else ""


def _check_sizes(image_size: int | None, limit: int | None) -> None:
    if image_size is not None and not 1 <= image_size <= MAX_SIDE:
        raise BadOption(f"image_size={image_size} is out of range; choose 1 to {MAX_SIDE} pixels")
    if limit is not None and limit < 1:
        raise BadOption(f"limit={limit} keeps no example; choose 1 or more, or leave it out for all")


def _limited(parts: Parts, limit: int, spec: str) -> Parts:
    if not parts.classes:
        return parts._replace(train=parts.train.take(slice(limit))) if limit < len(parts.train) else parts
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
