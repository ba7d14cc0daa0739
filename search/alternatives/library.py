"""The library of a model: for each sub-layer its alternatives, each with a writer of its own, in one file per sub-layer.

The model in a library computes what the given one does. Its batch norms have the statistics of the images; the heads of its
softmax attention are in data-weighted bases (`wb.compress.nvit.bases`), in which a rank is a number of leading channels. Readers
of alternatives are the model's, so that a file has only what differs. What is there already is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wb.compress.convert.mixers import started
from wb.compress.nvit.bases import rebased
from wb.core.errors import BadArtefact
from wb.core.system.files import replacing
from wb.models.axes import Leading
from wb.models.layers.convolution import EPSILON, BatchNormed
from wb.models.layers.operator import OperatorModule
from wb.models.model import Model, load, remap_model, save
from wb.models.network import skeleton
from wb.models.walk import Sublayer
from wb.search.alternatives.combined import Alternative, combined
from wb.search.alternatives.fit import Writer
from wb.search.alternatives.mixers import STEPS, narrowed, others
from wb.search.alternatives.observed import given, observed, rows_of
from wb.search.alternatives.option import NONE, WHOLE, Option, Size, Unit, name_of, sizes, unit_of
from wb.training.refit.distil import Pairs, distilled
from wb.training.refit.streams import BATCH, Streams
from wb.training.refit.trace import network_of
from wb.training.statistics import settled

OPTIONS = TypeAdapter(tuple[Option, ...])
Report = Callable[[int, int], None]


class Library:
    """The library of `model` in `folder`.

    Sizes of hidden layers are multiples of `align`; every alternative is trained for `distil` steps. `mixers` are kinds of others
    that are tried in the place of mixers (`wb.search.alternatives.mixers`).
    """

    def __init__(
        self,
        folder: Path,
        model: Model,
        align: int = 1,
        seed: int = 0,
        distil: int = 0,
        mixers: Sequence[str] = (),
    ) -> None:
        self.folder, self.given, self.align, self.seed, self.distil = folder, model, align, seed, distil
        self.mixers = mixers

    @property
    def slots(self) -> list[str]:
        """The names of the sub-layers."""
        return [at.name for at in skeleton(self.given.architecture).walk()]

    @cached_property
    def model(self) -> Model:
        """The model that alternatives are made of."""
        path = self.folder / "model.safetensors"
        try:
            return load(path)
        except BadArtefact as error:
            raise BadArtefact(
                f"{error}; delete the folder {self.folder}, and the same command makes it again"
            ) from error

    def make(self, images: Tensor, report: Report = lambda done, of: None) -> None:
        """Makes what is missing, from images (n, channels, height, width)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "model.safetensors").exists():
            model = settled(self.given, images.split(BATCH))
            save(rebased(model, images.split(BATCH)), self.folder / "model.safetensors", force=True)
        if all(self.path(slot).exists() for slot in self.slots):
            return
        streams = Streams(self.model, images)
        for number, at in enumerate(streams.walk()):
            report(number, len(self.slots))
            if not self.path(at.name).exists():
                self._write(at.name, self._fitted(at, streams, number))

    def path(self, slot: str) -> Path:
        """The file of a sub-layer."""
        return self.folder / f"{slot}.safetensors"

    def options(self, slot: str) -> dict[str, Option]:
        """What alternatives a sub-layer has, by name, the sub-layer as it is among them. Raises as `read` does."""
        return {name: one.option for name, one in self.read(slot, ()).items()}

    def read(self, slot: str, names: Collection[str] | None = None) -> dict[str, Alternative]:
        """The alternatives of a sub-layer by name, the sub-layer as it is among them; only those of `names` have weights.

        Raises:
            BadArtefact: the file is damaged.
        """
        try:
            with safe_open(self.path(slot), framework="pt") as file:
                options = OPTIONS.validate_json((file.metadata() or {})["options"])
                found: dict[int, dict[str, Tensor]] = {i: {} for i in range(len(options))}
                for key in file.keys():  # noqa: SIM118  # it is no mapping
                    number, name = key.split("/")
                    if names is None or options[int(number)].name in names:
                        found[int(number)][name] = file.get_tensor(key)
        except (SafetensorError, OSError, ValueError, KeyError, IndexError) as error:
            raise BadArtefact(
                f"{self.path(slot)} is damaged ({error}); delete it, and it is made again by the same command"
            ) from error
        return {option.name: Alternative(option, found[i]) for i, option in enumerate(options)}

    def _write(self, slot: str, found: list[Alternative]) -> None:
        tensors = {
            f"{i}/{name}": weight.contiguous() for i, one in enumerate(found) for name, weight in one.weights.items()
        }
        metadata = {"options": json.dumps([one.option.model_dump(mode="json") for one in found])}
        with replacing(self.path(slot), force=True) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def _fitted(self, at: Sublayer, streams: Streams, number: int) -> list[Alternative]:
        """All alternatives of a sub-layer, from the states before it."""
        found = [
            Alternative(Option(slot=at.name, name=WHOLE), {}),
            Alternative(Option(slot=at.name, name=NONE, error=1), {}),
        ]
        wanted, unit = list(sizes(at, self.align)), unit_of(at)
        rows = rows_of(self.model.architecture, at, streams, 1000 * self.seed + number)
        mixers = others(self.model.architecture, at, self.mixers)
        targets = given(at, streams, rows) if wanted or mixers else []
        for qk in dict.fromkeys(size.qk for size in wanted):
            narrow = at.operator if qk is None else _narrow(self.model, at, qk)
            writer = observed(at, narrow, streams, rows, targets)
            found += [self._alternative(at, unit, writer, size) for size in wanted if size.qk == qk and unit]
        if not self.distil and not mixers:
            return found
        pairs = Pairs.of(at, streams.states, causal=self.model.architecture.causal)
        for mixer in mixers:
            operator = started(at, mixer, 1000 * self.seed + number)
            distilled(operator, pairs, max(self.distil, STEPS), 1000 * self.seed + number)
            writer = observed(at, operator, streams, rows, targets)
            found += [Alternative(*one) for one in narrowed(at, mixer, operator, writer)]
        if not self.distil:
            return found
        return [self._distilled(one, pairs, i) if one.option.fitted else one for i, one in enumerate(found)]

    def _distilled(self, alternative: Alternative, pairs: Pairs, number: int) -> Alternative:
        """An alternative after local distillation."""
        option = alternative.option
        operator = network_of(combined(self.model, {option.slot: alternative})).at(option.slot).operator
        left = distilled(operator, pairs, self.distil, 1000 * self.seed + number)
        if left == 1:
            return alternative
        weights = {name: weight.detach().clone() for name, weight in operator.named_parameters()}
        return Alternative(option.model_copy(update={"error": option.error * left}), weights)

    def _alternative(self, at: Sublayer, unit: Unit, writer: Writer, size: Size) -> Alternative:
        kept = writer.best(size.units, size.v)
        weight, bias, error = writer.fitted(writer.columns(kept, size.v))
        option = Option(
            slot=at.name, name=name_of(size, unit), unit=unit, kept=kept, qk=size.qk, v=size.v, error=min(error, 1.0)
        )
        return Alternative(option, _own(at.operator, writer, kept, size, weight, bias))


def _narrow(model: Model, at: Sublayer, qk: int) -> OperatorModule:
    """A sub-layer's operator with the leading channels of queries and keys."""
    return network_of(remap_model(model, {f"{at.place}.qk": Leading(qk)})).at(at.name).operator


def _own(
    operator: OperatorModule, writer: Writer, kept: tuple[int, ...], size: Size, weight: Tensor, bias: Tensor
) -> Mapping[str, Tensor]:
    """The parameters of an alternative that are not the model's."""
    ((name, offset),) = operator.writers.items()
    found = {name: weight.float()}
    if isinstance(operator, BatchNormed):
        columns = writer.columns(kept, size.v)
        among = writer.ridge.among(columns)
        gram, _ = among.moments()
        mean = weight @ (among.x / among.rows + among.origin[0])
        variance = ((weight @ gram) * weight).sum(1) / among.rows
        statistics = {"mean": mean, "variance": variance, "gain": (variance + EPSILON).sqrt(), "shift": mean + bias}
        found |= {f"{name}_{what}": value.float() for what, value in statistics.items()}
    elif offset is not None:
        found[offset] = bias.float()
    return found
