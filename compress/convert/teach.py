"""The pass that puts another mixer into the place of mixers of a trained model, and teaches each to give what was there.

Source: local distillation as in Bercovich et al., "Puzzle", 2024, https://arxiv.org/abs/2411.19146, section 3, towards what
the sub-layer gives on the untouched model's stream.
Differs: the sub-layer's weights stay where both mixers have them (`wb.compress.convert.mixers`).
Limits: each is taught by itself, so that what their errors do together is left to fine-tuning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wb import __version__
from wb.compress.convert.mixers import like, started
from wb.compress.convert.record import Layer
from wb.compress.staged.places import among
from wb.core.architecture import Architecture, Block
from wb.core.errors import BadArtefact, BadOption
from wb.core.records import Mixer
from wb.core.system.files import replacing
from wb.data import Dataset
from wb.models.layers.operator import OperatorModule
from wb.models.model import Model, Step
from wb.models.network import skeleton
from wb.models.walk import Sublayer
from wb.tasks.suited import check_fits
from wb.training.refit.distil import Pairs, distilled, missed
from wb.training.refit.streams import Streams

IMAGES = 512  # that mixers are taught on
NUMBERS = 1 << 26  # of tokens that are held at once: of large networks there are fewer images
WORST = 1e6  # what is recorded of an error that is larger, or no number


@dataclass(frozen=True)
class OtherMixers:
    """The pass: mixers in `layers` (blocks, or what their names begin with; all by default) become one of `kind`.

    `given` are fields of the new mixer; others are those of the old one, where both have them. Each is taught for `steps` on at
    most `images` training images; labels are not used. In `folder` a mixer that is done is kept, for the same pass once more.
    `report(slot)` is called before each.
    """

    data: Dataset
    kind: str
    given: Mapping[str, JsonValue] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    steps: int = 400
    images: int = IMAGES
    seed: int = 0
    folder: Path | None = None
    report: Callable[[str], None] = lambda _: None

    def __call__(self, model: Model, /) -> Model:
        """The model with the other mixers.

        Raises:
            BadData: the data have another shape or number of classes.
            BadOption: no mixer that could be replaced, or one that is named and cannot be.
        """
        check_fits(model.architecture, self.data)
        records = self.records(model.architecture)
        pictures = self._pictures(model.architecture)
        weights, found = dict(model.weights), list[Layer]()
        streams = Streams(model, pictures)
        for number, at in enumerate(streams.walk()):
            if at.name in records:
                self.report(at.name)
                own, taught = self._taught(at, records[at.name], streams, 1000 * self.seed + number)
                weights = {name: w for name, w in weights.items() if not name.startswith(f"{at.prefix}.")}
                weights |= {f"{at.prefix}.{name}": w for name, w in own.items()}
                found.append(taught)
        return Model(self.converted(model.architecture), weights, (*model.history, self._step(found, len(pictures))))

    def converted(self, architecture: Architecture) -> Architecture:
        """`architecture` with the other mixers. Raises `BadOption` as the pass does."""
        records = self.records(architecture)

        def with_mixer(name: str, block: Block) -> Block:
            mixer = records.get(f"{name}.mixer")
            return block if mixer is None else block.model_copy(update={"mixer": mixer})

        return architecture.with_blocks(with_mixer)

    def records(self, architecture: Architecture) -> dict[str, Mixer]:
        """The mixers that come, by the names of the sub-layers that have them."""
        there = {at.place: at for at in skeleton(architecture).walk() if at.kind == "mixer"}
        places = among(self.layers, list(there), "block with a mixer")
        found = {place: like(there[place], self.kind, self.given) for place in places}
        lacks = {place: why for place, why in found.items() if isinstance(why, str)}
        if not found:
            raise BadOption("this model has no mixers that another could take the place of; say --norm for other norms")
        if lacks and (self.layers or len(lacks) == len(found)):
            place, why = next(iter(lacks.items()))
            raise BadOption(
                f"{self.kind} cannot be in the place of the mixer of {place}: it {why}; say other --layers, another --mixer, or "
                "more of it: --mixer KIND,FIELD=VALUE"
            )
        return {f"{place}.mixer": one for place, one in found.items() if not isinstance(one, str)}

    def _pictures(self, architecture: Architecture) -> Tensor:
        """Training images, evenly spaced: (B, channels, height, width), or ids (B, N)."""
        layouts, stages = architecture.layouts(), architecture.stages
        most = max(layout.tokens * stage.embed for layout, stage in zip(layouts, stages, strict=True))
        count = max(16, min(self.images, len(self.data.train), NUMBERS // most))
        count = min(count, len(self.data.train))
        return torch.from_numpy(self.data.train.inputs(np.arange(count) * len(self.data.train) // count))

    def _taught(self, at: Sublayer, mixer: Mixer, streams: Streams, seed: int) -> tuple[dict[str, Tensor], Layer]:
        """The parameters of the new mixer by local names, and how well it does; those in `folder`, if they are there."""
        path = None if self.folder is None else self.folder / f"{at.name}.safetensors"
        if path is not None and path.exists():
            return _read(path)
        pairs = Pairs.of(at, streams.states, causal=streams.network.architecture.causal)
        operator = started(at, mixer, seed)
        begun = _share(operator, pairs)
        distilled(operator, pairs, self.steps, seed)
        kinds = at.operator.record.title, mixer.title
        taught = Layer(slot=at.name, before=kinds[0], after=kinds[1], begun=begun, missed=_share(operator, pairs))
        own = {name: weight.detach().clone().contiguous() for name, weight in operator.named_parameters()}
        if path is not None:
            with replacing(path, force=True) as temporary:
                save_file(own, temporary, metadata={"taught": taught.model_dump_json()})
        return own, taught

    def _step(self, found: list[Layer], images: int) -> Step:
        layers: list[JsonValue] = [one.model_dump(mode="json") for one in found]
        arguments: dict[str, JsonValue] = {**self.data.origin, "mixer": self.kind, **self.given}
        arguments |= {"images": images, "steps": self.steps, "layers": layers}
        return Step(name="mixers", arguments=arguments, seed=self.seed, version=__version__)


def tried(step: OtherMixers, architecture: Architecture, steps: int) -> OtherMixers:
    """The pass for the first of its layers alone and few steps, to see how long that takes."""
    first = next(iter(step.records(architecture)))
    return replace(step, layers=(first.removesuffix(".mixer"),), steps=steps, folder=None, report=lambda _: None)


@torch.no_grad()
def _share(operator: OperatorModule, pairs: Pairs) -> float:
    """What an operator misses of what is held out, as a share of the variance."""
    held = pairs.held
    variance = float(held.variance)
    return min(missed(operator, held) / variance, WORST) if variance else 0.0


def _read(path: Path) -> tuple[dict[str, Tensor], Layer]:
    try:
        with safe_open(path, framework="pt") as file:
            told = Layer.model_validate(json.loads((file.metadata() or {})["taught"]))
            return {name: file.get_tensor(name) for name in file.keys()}, told  # noqa: SIM118  # it is no mapping
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadArtefact(
            f"{path} is damaged ({error}); delete it, and it is made again by the same command"
        ) from error
