"""The card of a bundle: what a program or a person has to know of the network, as JSON and as a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.core.precision import precisions
from wb.core.specs import PIXELS
from wb.core.system.files import read_text
from wb.core.system.provenance import machine, now, versions
from wb.data import Dataset
from wb.data.spec import WHITE, Spec
from wb.export.graph import LOGITS
from wb.export.pasts import PASTS
from wb.hardware.device import unaddressed
from wb.jobs.bundle.runtimes import Added
from wb.jobs.bundle.stored import stepwise
from wb.models.decoding import recalled
from wb.models.files.history import public
from wb.models.model import Step
from wb.models.network import skeleton

SCHEMA = 1  # of card.json
TOKENIZER_FILE = "tokenizer.json"
TEMPLATE = Path(__file__).with_name("README.md.jinja")


class Contents(NamedTuple):
    """What a card is made of. Without `data` nothing is known of how pictures become inputs but the sizes.

    `front` are the ids that stand in front of every text, `added` the graphs for other runtimes.
    """

    name: str
    architecture: Architecture
    history: Sequence[Step]
    readings: Mapping[str, Reading]
    missing: Mapping[str, str]
    data: Dataset | None
    examples: str
    graphs: Sequence[str]
    torch: bool
    licence: str | None
    notes: Sequence[str]
    front: Sequence[int] = ()
    added: Sequence[Added] = ()


def card_of(contents: Contents) -> dict[str, Any]:
    """The card as JSON."""
    a, data = contents.architecture, contents.data
    given = _images(a, data) if a.input.usual_tokens is None else _texts(a, contents.front)
    return {
        "schema": SCHEMA,
        "name": contents.name,
        "task": "next token" if a.head.foresees else "classification",
        **given,
        "output": {"name": LOGITS, "dtype": "float32", "shape": _scores(a)},
        "labels": _labels(a),
        **({"stepwise": stepwise(a)} if a.causal else {}),
        "graphs": list(contents.graphs),
        "others": {one.file: {"package": one.package, "tolerance": one.tolerance} for one in contents.added},
        "torch": contents.torch,
        "precision": {group: precision for group, precision in precisions(a).items() if precision != "fp32"},
        "readings": {name: reading.model_dump(mode="json") for name, reading in _public(contents.readings).items()},
        "missing": dict(contents.missing),
        "check": contents.examples,
        "architecture": a.model_dump(mode="json"),
        "lineage": public(contents.history),
        "data": None if data is None else {"name": data.name, "fingerprint": data.fingerprint},
        "licence": contents.licence,
        "notes": list(contents.notes),
        "made": {"by": f"wb {__version__}", "at": now(), **machine("of the export: cpu"), "versions": versions()},
    }


def _images(a: Architecture, data: Dataset | None) -> dict[str, Any]:
    """What a network of images takes, and how a picture becomes that."""
    features = data is not None and data.test.features
    shape = {"name": PIXELS, "dtype": "float32", "shape": ["batch", *a.input.specs()[0].example]}
    layout = {"layout": "batch, channels, height, width", "range": None if features else [0, 1]}
    return {"input": shape | layout, "preprocessing": None if features else _preprocessing(a, data)}


def _texts(a: Architecture, front: Sequence[int]) -> dict[str, Any]:
    """What a network of texts takes: ids of tokens, and a mask that is 1 at those that count."""
    inputs = [
        {"name": one.name, "dtype": one.dtype, "shape": list(one.shape), "below": one.below} for one in a.input.specs()
    ]
    kept = (
        []
        if not a.causal
        else [{"name": PASTS + one.name, "dtype": "float32", "shape": list(one.shape)} for one in recalled(skeleton(a))]
    )
    text = {"tokenizer": TOKENIZER_FILE, "length": int(a.layout.shape[0]), "usual": a.input.usual_tokens}
    text |= {"front": list(front)}
    return {"inputs": [*inputs, *kept], "text": text}


def _scores(a: Architecture) -> list[str | int]:
    """The shape of the scores: of each class, or of each token of the vocabulary behind every token."""
    vocabulary = a.input.specs()[0].below
    return ["batch", "tokens", int(vocabulary or 0)] if a.head.foresees else ["batch", a.head.classes]


def readme_of(card: Mapping[str, Any], readings: Mapping[str, Reading]) -> str:
    """The card for people, in Markdown."""
    rows = [
        (name, reading.text(), reading.how, str(reading.n), reading.device or "", reading.note or "")
        for name, reading in _public(readings).items()
    ]
    return str(_template().render(card=card, rows=rows))


def _public(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """Readings without the addresses of the devices that they are from."""
    return {
        name: reading if reading.device is None else reading.model_copy(update={"device": unaddressed(reading.device)})
        for name, reading in readings.items()
    }


def _labels(a: Architecture) -> list[str]:
    """The names of the classes; their numbers where they have none. Tokens are no classes with names."""
    return list(a.head.labels) or [str(number) for number in range(a.head.classes)]


def _preprocessing(a: Architecture, data: Dataset | None) -> dict[str, Any]:
    """How a picture becomes the network's input; normalisation is in the graph. `infer.py` does what this says."""
    channels, height, width = a.input.specs()[0].example
    return {
        "upright": "as EXIF says",
        "background": WHITE if data is None else Spec.parse(data.spec).background,
        "mode": "L" if channels == 1 else "RGB",
        "fit": "scaled and cropped to the centre",
        "width": width,
        "height": height,
        "resample": "BICUBIC",
        "divide_by": 255,
    }


@cache
def _template() -> Any:
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(read_text(TEMPLATE, "a template"))
