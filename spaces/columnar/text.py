"""Space `text`: encoders of texts, shallow or deep, whose blocks differ freely in mixer and in every width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.layout import Layout
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


AHEAD = ", which measures what ranges of 8-bit activations, one for all tokens of a run, see of those that follow"


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
        check_kinds(self.name, options, EmbedStem().layout(given), "texts")
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
        wanted = {**USUAL, "mixer": MIXER, **changes}
        return self.decode({gene: nearest(gene, options, wanted) for gene, options in self.genes.items()})


def check_kinds(space: str, options: VitOptions, layout: Layout, what: str) -> None:
    """Raises `BadOption` for mixers and feed-forwards that do not compute on `what` lies like that, and for precisions."""
    if options.precision != ("fp32",):
        raise BadOption(
            f"space {space!r} has networks in fp32, and precision={','.join(options.precision)}; leave it out, and put what is "
            f"found into fewer bits with wb quantize{AHEAD if layout.causal else ''}"
        )
    for part, kinds, names in (("mixer", OFFERED, options.mixer), ("ffn", FFN_KINDS, options.ffn)):
        lacks = {name: lack for name in names if name in kinds and (lack := kinds[name].lacks(layout))}
        for name, lack in lacks.items():
            fitting = ", ".join(kind for kind in kinds if kinds[kind].lacks(layout) is None)
            raise BadOption(f"{part} {name!r} {lack}; for {what} there are {fitting}")


def nearest(gene: str, options: Sequence[Option], wanted: Choices) -> Option:
    """The option of a gene that is nearest to what is wanted of its field; without a wish the first, or a mixer that mixes."""
    field = gene.rpartition(".")[2]
    wish = wanted.get(field)
    if field == "mixer":
        mixing = [one for one in reversed(options) if one != NONE]
        return wish if wish is not None and wish in options else (*mixing, NONE)[0]
    return options[0] if wish is None else min(options, key=lambda one: abs(float(one) - float(wish)))
