"""Space `text`: encoders of texts, shallow or deep, whose blocks differ freely in mixer and in every width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.records import EmbedStem, Stem, TextInput
from wb.core.space import Choices, Option
from wb.spaces.columnar.columns import Columnar
from wb.spaces.columnar.options import VitOptions
from wb.spaces.columnar.plain import MIXER
from wb.spaces.operators import FFN_KINDS, NONE, OFFERED

USUAL = {
    "embed": 128,
    "depth": 1,
    "heads": 4,
    "qk": 32,
    "v": 32,
    "mlp": 2,
}  # of the network to train where none is named


class Text(Columnar):
    """The architectures that `options` allow for texts of one vocabulary.

    Raises:
        BadOption: options that do not leave out padding, that contradict each other, or exceed the bounds of an architecture.
    """

    name = "text"

    def __init__(
        self, options: VitOptions, given: TextInput, classes: int, labels: Sequence[str] = (), preset: str = "custom"
    ) -> None:
        super().__init__(options, given, classes, labels, preset)
        layout = EmbedStem().layout(given)
        if options.precision != ("fp32",):
            raise BadOption(
                f"space 'text' has networks in fp32, and precision={','.join(options.precision)}; leave it out"
            )
        for what, kinds, names in (("mixer", OFFERED, options.mixer), ("ffn", FFN_KINDS, options.ffn)):
            lacks = {name: lack for name in names if name in kinds and (lack := kinds[name].lacks(layout))}
            for name, lack in lacks.items():
                fitting = ", ".join(kind for kind in kinds if kinds[kind].lacks(layout) is None)
                raise BadOption(f"{what} {name!r} {lack}; for texts there are {fitting}")
        self._check_tops("fewer or smaller options")

    def stem(self, kind: str, widths: Choices) -> Stem:
        del kind, widths
        return EmbedStem()

    @property
    def seeds(self) -> Mapping[str, Callable[[], Architecture]]:
        """`largest` and `smallest`; those of images raise `BadOption`."""
        return {"largest": self.largest, "smallest": self.smallest}

    @property
    def regular(self) -> Mapping[str, Architecture]:
        """The usual network, and the same of every width and depth."""
        widths, depths = self.all_genes["embed"], self.all_genes["depth"]
        every = {f"usual-{w}-{d}": self._usual({"embed": w, "depth": d}) for d in depths for w in reversed(widths)}
        return {"usual": self.usual(), **every}

    def usual(self) -> Architecture:
        """The network nearest to that of the recipe: one block of 128 with four heads of softmax attention."""
        return self._usual({})

    def _usual(self, changes: Choices) -> Architecture:
        return self.decode({gene: self._nearest(gene, options, changes) for gene, options in self.genes.items()})

    def _nearest(self, gene: str, options: Sequence[Option], changes: Choices) -> Option:
        field = gene.rpartition(".")[2]
        wanted = changes.get(field, USUAL.get(field))
        if field == "mixer":
            return (
                MIXER
                if MIXER in options
                else next(one for one in reversed(options) if one != NONE or len(options) == 1)
            )
        return options[0] if wanted is None else min(options, key=lambda one: abs(float(one) - float(wanted)))
