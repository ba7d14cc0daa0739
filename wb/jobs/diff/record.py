"""What `wb diff` finds, as a record that is printed as JSON."""

from __future__ import annotations

from typing import Literal

from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.statistics.paired import Paired

ROUNDING = 1e-5  # a relative distance below this is of arithmetic in another order, not of another function
Names = tuple[str, str]  # of the two models


class Field(Frozen):
    """A field of a record of the architecture, as text in both; None where there is none. The `name` of a whole part is empty."""

    place: str
    name: str
    a: str | None
    b: str | None

    @property
    def differs(self) -> bool:
        """Whether the two differ."""
        return self.a != self.b


class Count(Frozen):
    """A metric of both that needs no run; None where it cannot be counted."""

    name: str
    a: Reading | None
    b: Reading | None


class WeightRow(Frozen):
    """A named weight: its shapes, ‖a − b‖ / ‖a‖ and the cosine of the two where the shapes agree, else why they are not there."""

    name: str
    a: tuple[int, ...] | None
    b: tuple[int, ...] | None
    distance: float | None = None
    cosine: float | None = None
    note: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the two differ."""
        return self.distance != 0


class LayerRow(Frozen):
    """How far the residual stream behind a sub-layer is from that of the other model on the same images.

    Of two graphs it is of a value inside, by its name. `distance` is ‖a − b‖ / ‖a‖ over all tokens and images, where the widths
    agree. `cka` is linear CKA on a sample of tokens. Both are None where values are not finite, as `note` says. `where` says
    which of the two has the sub-layer.
    """

    name: str
    where: Literal["both", "a", "b"]
    widths: tuple[int, int]
    distance: float | None
    cka: float | None
    note: str | None = None


class Outputs(Frozen):
    """How far the outputs agree on `images` images of `data`; `made_up` ones are noise, and have no labels.

    `kl` is the mean divergence of B's class probabilities from A's, in nats; `largest` the largest difference of two logits,
    `distance` ‖a − b‖ / ‖a‖ of all (over ‖b‖ where A answers nothing but zeros). `paired` compares
    right answers of B (won) with those of A (lost). Of decoders `agreement` and `kl` are over all tokens, `ppl`
    has their perplexities, and `nats` how much more a token costs B.
    """

    data: str
    images: int
    made_up: bool
    agreement: Reading
    kl: float
    largest: float
    distance: float
    accuracy: tuple[Reading, Reading] | None = None
    paired: Paired | None = None
    noun: str = "images"
    ppl: tuple[Reading, Reading] | None = None
    nats: Reading | None = None


class ReadingRow(Frozen):
    """A reading that both have in their histories, the last of its name; `alike` if noise may be all that parts them."""

    name: str
    a: Reading
    b: Reading

    @property
    def alike(self) -> bool:
        """Whether the two cannot be told apart."""
        return self.a.unit == self.b.unit and self.a.overlaps(self.b)


class Lineage(Frozen):
    """The steps that both histories begin with, and those that each has besides, as text."""

    shared: tuple[str, ...]
    a: tuple[str, ...]
    b: tuple[str, ...]


class Difference(Frozen):
    """What the models `a` and `b` differ in; a part that could not be compared is empty, and `notes` say why.

    `equal` means that both have the same architecture and the same weights, or that two graphs are the same but for their
    metadata. `together` is ‖a − b‖ / ‖a‖ over all weights that both have in one shape, as one vector.
    """

    a: str
    b: str
    equal: bool
    fields: tuple[Field, ...]
    counts: tuple[Count, ...]
    weights: tuple[WeightRow, ...]
    together: float | None
    layers: tuple[LayerRow, ...]
    outputs: Outputs | None
    readings: tuple[ReadingRow, ...]
    lineage: Lineage
    notes: tuple[str, ...]

    @property
    def of_graphs(self) -> bool:
        """Whether both are graphs, so that `layers` are values inside them."""
        return self.a.endswith(".onnx") and self.b.endswith(".onnx")

    def differing(self) -> Difference:
        """The same without fields and weights that are equal."""
        fields, weights = ([row for row in rows if row.differs] for rows in (self.fields, self.weights))
        return self.model_copy(update={"fields": tuple(fields), "weights": tuple(weights)})

    @property
    def names(self) -> Names:
        """Short names for tables: of the files if they differ, else with their folders."""
        one, other = (path.rstrip("/").rsplit("/", 1)[-1] for path in (self.a, self.b))
        return (one, other) if one != other else (self.a, self.b)
