"""What a model is in the words of a family: its rules, the shapes of their tensors, and their configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.records import ImageInput
from wb.foreign.checkpoint import CONFIG, parsed
from wb.foreign.families.known import BY_NAME, FAMILIES
from wb.foreign.family import Family, Seen
from wb.foreign.form import Shape
from wb.foreign.given import Given
from wb.foreign.origin import Origin, origin_of
from wb.foreign.rule import Rule, applying, bare
from wb.foreign.said.difference import difference, uneven
from wb.models.model import Model
from wb.models.network import skeleton

To = Literal["hf", "timm", "source"]
LIBRARIES: Mapping[To, str] = {"hf": "transformers", "timm": "timm", "source": "the library that it came from"}
NAMELESS = "it has parts that the layout has no names for"


@dataclass(frozen=True)
class Target:
    """What is to be written: the family, its rules, the shapes of theirs, and its configuration (empty for none)."""

    family: Family
    rules: Sequence[Rule]
    shapes: Mapping[str, Shape]
    config: Mapping[str, Any]
    again: Mapping[str, str]  # tensors of its files that are others again
    origin: Origin | None  # None also if the model came as another family's


def target_of(model: Model, to: To) -> Target:
    """The first family of that library that says the architecture, that of the model's origin first."""
    origin = origin_of(model.history)
    own = None if origin is None else BY_NAME.get(origin.family)
    if to == "source":
        if own is None:
            raise BadOption(
                "the model was not imported, so that it has no source to go back to; say --to hf, timm or torch"
            )
        families = [own]
    else:
        kind = model.architecture.input.kind
        families = [family for family in FAMILIES if family.library == to and family.takes == kind]
        if not families:
            raise Unsupported(
                f"{LIBRARIES[to]} has no network here that takes {kind}s; `--to hf` writes some, and ONNX any"
            )
        families.sort(key=lambda family: family is not own)
    refused: dict[str, list[str]] = {}  # titles by the reason
    for family in families:
        try:
            return _said(family, model.architecture, origin if family is own else None)
        except (Unsupported, BadArtefact, BadOption) as error:
            refused.setdefault(str(error), []).append(family.title)
            if family is own:
                break
    if len(refused) > 1:
        refused.pop(NAMELESS, None)
    why = "; ".join(f"{', '.join(titles)}: {text}" for text, titles in refused.items())
    others = "`--to torch` and ONNX" if isinstance(model.architecture.input, ImageInput) else "ONNX"
    raise Unsupported(f"{LIBRARIES[to]} cannot say this network ({why}); {others} can")


def _said(family: Family, a: Architecture, origin: Origin | None) -> Target:
    """The architecture in the words of a family. Raises unless reading them would give the same architecture again.

    A configuration that says the architecture already stays as it came.
    """
    came = {} if origin is None or CONFIG not in origin.texts else parsed(origin.texts[CONFIG], Path(CONFIG))
    given = origin.given if origin is not None else _given(a, family.options)
    try:
        ours = {name: tuple(p.shape) for name, p in skeleton(a).named_parameters()}
        made = family.made(a, came)
        stored = {name: shape for name, shape in ours.items() if name not in made}
        names = (family.prefix,) if origin is None else origin.shapes()
        rules = bare(applying(family.rules(a), stored), family.prefix, names)
        shapes: dict[str, Shape] = {}
        for one in rules:
            shapes |= one.shapes(ours)
        again = {} if origin is None else _again(family, a, origin, shapes)
        other = None if origin is None or family.library != "timm" else _resized(a, shapes, origin)
        if other and came and family.named:
            raise Unsupported(
                f"its config.json names {came.get('architecture')}, which stands for all sizes, and "
                f"{other} has another one, or is gone"
            )
        unchanged = origin is not None and not other
        if unchanged and difference(a, family.architecture(Seen(came, shapes, given))) is None:
            return Target(family, rules, shapes, came, again, origin)
        config = family.config(a, came)
        lost = difference(a.with_labels(()), family.architecture(Seen(config, shapes, given)).with_labels(()))
        if lost is None:
            return Target(family, rules, shapes, config, again, origin)
    except Unsupported:
        raise
    except (ValueError, IndexError, KeyError) as error:  # names and shapes that its table does not have
        raise Unsupported(uneven(a) or NAMELESS) from error
    raise Unsupported(uneven(a) or f"the format cannot say {lost}")


def _again(family: Family, a: Architecture, origin: Origin, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The tensors of its files that were others again, and still are."""
    came, found = origin.shapes(), family.again(a)
    return {name: of if of in shapes else of.removeprefix(family.prefix) for name, of in found.items() if name in came}


def check_made(target: Target, model: Model) -> None:
    """Raises `Unsupported` where a parameter is another than what the configuration of the target stands for."""
    for name, expected in target.family.made(model.architecture, target.config).items():
        given = model.weights[name]
        if given.shape != expected.shape or not torch.allclose(given.float(), expected, rtol=1e-6, atol=0):
            raise Unsupported(
                f"a {target.family.title} computes {name} from its configuration, and this network has other numbers there, as "
                "after some of its planes went; ONNX (wb export -o FILE.onnx) has it as it is"
            )


def _resized(a: Architecture, shapes: Mapping[str, Shape], origin: Origin) -> str | None:
    """A tensor that has another shape than it came in, is new, or is gone; a classifier for other classes is none."""
    came = origin.shapes()
    for name, shape in shapes.items():
        before = came.get(name)
        if before is None or (shape != before and (shape[:1] != (a.head.classes,) or shape[1:] != before[1:])):
            return name
    return next((name for name in came if name not in shapes and name not in origin.kept), None)


def _given(a: Architecture, options: Sequence[str]) -> Given:
    """What has to be said of a checkpoint with this network; not what the library would have to be told too."""
    mixers = [getattr(block.mixer, "heads", None) for _, _, block in a.blocks()]
    every: dict[str, object] = {
        "heads": next((heads for heads in mixers if heads), None),
        "image_size": a.input.height if isinstance(a.input, ImageInput) else None,
    }
    if a.head.pool != "pair":
        every["pool"] = a.head.pool
    return Given.model_validate({name: value for name, value in every.items() if name in options})
