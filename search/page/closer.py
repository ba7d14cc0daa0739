"""A closer look at the networks of a front: how to use one, what it gets wrong, how it was trained, what all are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from markupsafe import Markup

from wb.core.architecture import Architecture
from wb.core.statistics.scores import wilson
from wb.search.page.contents import Contents
from wb.search.page.details import composition_figure, confusion_figure, curves_figure, hardest, widths_of
from wb.search.page.usage import script
from wb.search.results.answers import Answers, Mistake, NetworkAnswers
from wb.search.results.curves import SUPERNET
from wb.search.results.mixers import Used, used
from wb.search.results.point import FrontPoint

PLACES = {"mixer": "Mixers", "ffn": "Feed-forwards", "merge": "Between stages"}
MOST_PAIRS = 8  # confusions in words


@dataclass(frozen=True)
class Picture:
    """An example that the network gets wrong, as the page shows it, and what it says of it."""

    shown: Markup
    true: str
    answer: str
    probability: str


@dataclass(frozen=True)
class ClassRow:
    """The share of a class that each network has right, as text, and the interval of the first."""

    name: str
    images: int
    cells: Sequence[str]


@dataclass(frozen=True)
class Closer:
    """What the page shows of single networks.

    `subject` is the network that is looked at: the recommended one, or the best where there is no knee. `script` uses its file.
    `rows` have a cell for each of `networks`; `left_out` counts classes that are not shown.
    """

    subject: FrontPoint | None = None
    script: str = ""
    networks: Sequence[int] = ()
    rows: Sequence[ClassRow] = ()
    left_out: int = 0
    pairs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    widths: Mapping[int, Mapping[str, str]] | None = None
    mixers: Sequence[Used] = ()

    @property
    def titles(self) -> list[str]:
        """The widths that some network has, in order."""
        return list(dict.fromkeys(title for row in (self.widths or {}).values() for title in row))


def shown(contents: Contents) -> Closer:
    """The texts and tables of the closer look; the script names the graph as seen from the run folder."""
    subject = _subject(contents)
    if subject is None:
        return Closer()
    architecture = contents.architectures[subject.id]
    found = Closer(
        subject=subject,
        script=script(subject.onnx, architecture, contents.record.data.spec),
        widths={number: _widths(a) for number, a in contents.architectures.items()},
        mixers=used(contents.architectures[point.id] for point in contents.points or ()),
    )
    answers = contents.answers
    if answers is None or subject.id not in answers.networks:
        return found
    classes = answers.classes
    networks = [point.id for point in contents.points or () if point.id in answers.networks]
    matrices = {number: answers.networks[number].matrix(len(classes)) for number in networks}
    some = hardest(matrices[subject.id])
    rows = [
        ClassRow(
            classes[i],
            int(matrices[subject.id][i].sum()),
            [_share(int(matrices[n][i, i]), int(matrices[n][i].sum())) for n in networks],
        )
        for i in some
    ]
    own = answers.networks[subject.id]
    return Closer(
        subject=subject,
        script=found.script,
        widths=found.widths,
        mixers=found.mixers,
        networks=networks,
        rows=rows,
        left_out=len(classes) - len(some),
        pairs=_pairs(own, classes),
        pictures=[
            Picture(
                _shown(answers, mistake),
                classes[mistake.true],
                classes[mistake.answer],
                f"{100 * mistake.probability:.0f} %",
            )
            for mistake in own.mistakes
            if mistake.image in answers.pictures or mistake.image in answers.texts
        ],
    )


def _shown(answers: Answers, mistake: Mistake) -> Markup:
    """An example as the page shows it: a picture, or the text."""
    if mistake.image in answers.texts:
        return Markup("<q>{}</q>").format(answers.texts[mistake.image])
    name = f"an image of class {answers.classes[mistake.true]}"
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(answers.pictures[mistake.image], name)


def closer(contents: Contents) -> dict[str, go.Figure]:
    """Name -> figure, of those that have something to show."""
    found: dict[str, go.Figure] = {}
    subject, answers, points = _subject(contents), contents.answers, contents.points or ()
    if subject is not None and answers is not None and subject.id in answers.networks:
        matrix = answers.networks[subject.id].matrix(len(answers.classes))
        found["confusion"] = confusion_figure(matrix, answers.classes)
    if SUPERNET in contents.curves:
        found["curve-supernet"] = curves_figure({"supernet": contents.curves[SUPERNET]})
    tuned = {f"network {p.number}": contents.curves[str(p.number)] for p in points if str(p.number) in contents.curves}
    if tuned:
        found["curve-finalists"] = curves_figure(tuned, f"network {subject.number}" if subject else None)
    architectures = {str(point.id): contents.architectures[point.id] for point in points}
    for place in PLACES if len(architectures) > 1 else ():
        figure = composition_figure(architectures, place)
        if figure is not None:
            found[f"made-of-{place}"] = figure
    return found


def _subject(contents: Contents) -> FrontPoint | None:
    """The network that is looked at."""
    return contents.best or next(iter(contents.points or ()), None)


def _share(right: int, of: int) -> str:
    """`92.3 % ±5.1`, with half of Wilson's interval in points; a dash where the test split has no image."""
    if not of:
        return "–"
    low, high = wilson(right, of)
    return f"{100 * right / of:.1f} % ±{50 * (high - low):.1f}"


def _pairs(answers: NetworkAnswers, classes: Sequence[str]) -> list[str]:
    """The most frequent confusions in words, those that happened twice or more."""
    wrong = sorted((t for t in answers.confusion if t[0] != t[1] and t[2] > 1), key=lambda t: -t[2])
    return [f"{classes[true]} taken for {classes[answer]}: {count}" for true, answer, count in wrong[:MOST_PAIRS]]


def _widths(architecture: Architecture) -> dict[str, str]:
    """Title of a width -> `16`, or `8 to 32` where parts differ."""
    found = widths_of(architecture)
    return {title: str(low) if low == high else f"{low} to {high}" for title, (low, high) in found.items()}
