"""Space `decoder`: networks that foresee the next token of a text, whose blocks differ freely in mixer and in every width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.layout import Layout
from wb.core.records import EmbedStem, Head, Language, Mixer, Stem, TextInput, kind_of
from wb.core.records.attention import Rotary
from wb.core.space import Choices
from wb.spaces.columnar.columns import Columnar
from wb.spaces.columnar.options import VitOptions
from wb.spaces.columnar.text import check_kinds, nearest

# The network to train where none is named.
USUAL: Choices = {
    "embed": 128,
    "depth": 4,
    "mixer": kind_of(Rotary),
    "heads": 4,
    "queries": 1,
    "qk": 16,
    "v": 32,
    "mlp": 2.75,
}
SHARP = 3.4  # of scores, where queries and keys are normalised: their products are no larger than their channels


class Decoder(Columnar):
    """The architectures that `options` allow for texts of one vocabulary; the head reads the table of the stem.

    Rotary attention has normalised queries and keys, whose scores are multiplied by `SHARP` more than is usual.

    Raises:
        BadOption: options that look ahead, that contradict each other, or exceed the bounds of an architecture.
    """

    name = "decoder"
    causal = True

    def __init__(
        self, options: VitOptions, given: TextInput, classes: int, labels: Sequence[str] = (), preset: str = "custom"
    ) -> None:
        super().__init__(options, given, classes, labels, preset)
        layout: Layout = EmbedStem().layout(given)._replace(causal=True)
        check_kinds(self.name, options, layout, "decoders")
        if options.pool != "mean":
            raise BadOption(f"space 'decoder' answers for every token, and pool={options.pool} is of one; leave it out")
        self._check_tops("fewer or smaller options")

    def stem(self, kind: str, widths: Choices) -> Stem:
        del kind, widths
        return EmbedStem()

    def head(self) -> Head:
        return Language()

    def mixer(self, kind: str, sizes: Choices, embed: int) -> Mixer | None:
        found = super().mixer(kind, sizes, embed)
        return None if found is None else found.sharpened(SHARP)

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

    @property
    def known(self) -> Mapping[str, Architecture]:
        """The usual network of every width."""
        return {f"decoder-{width}": self._usual({"embed": width}) for width in self.all_genes["embed"]}

    def usual(self) -> Architecture:
        """The network nearest to that of the recipe: four blocks of 128 with four heads."""
        return self._usual({})

    def _usual(self, changes: Choices) -> Architecture:
        wanted = {**USUAL, **changes}
        return self.decode({gene: nearest(gene, options, wanted) for gene, options in self.genes.items()})
