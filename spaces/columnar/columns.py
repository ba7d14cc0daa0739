"""Spaces of columns: networks of one stage whose blocks differ freely in mixer and in every width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import NotInSpace
from wb.core.records import Classify, Head, Input, Mixer, Norm, Position, Precision, Stem, Wiring
from wb.core.space import Choices, Option, canonical, check_choices
from wb.spaces.columnar.options import VitOptions
from wb.spaces.columnar.plain import plain
from wb.spaces.columnar.precision import (
    FFN,
    MIXER,
    WHOLE,
    chosen,
    is_precision,
    kept_by_gene,
    precision_genes,
)
from wb.spaces.columnar.widening import forms, widening
from wb.spaces.genes import GeneSpace
from wb.spaces.operators import (
    FFN_KINDS,
    NONE,
    NORM_KINDS,
    OFFERED,
    POSITION_KINDS,
    WIRING_KINDS,
    ffn_of,
    has_weights,
    mixer_of,
    mixer_widths,
    ratio_of,
    sizes_of,
    stem_genes,
    width_for,
    width_of,
)
from wb.spaces.practices import VIT, Practice, asked_of


class Columnar(GeneSpace):
    """The architectures that `options` allow for inputs of one kind. A final subclass has a `name`, a `stem` and its seeds.

    Genes: `embed`, `depth`, `stem`, `stem_width`, and per block `b0.mixer`, `b0.heads`, `b0.qk`, `b0.v`, `b0.memory`,
    `b0.ffn`, `b0.mlp`; with several precisions `stem_precision`, `head_precision`, `b0.mixer_in`, `b0.mixer_out`, `b0.ffn_in`,
    `b0.ffn_out` (`wb.spaces.columnar.precision`); a gene with one option is left out. `depth` says how many of the leading blocks
    there are.
    """

    causal: ClassVar[bool] = False

    def __init__(self, options: VitOptions, given: Input, classes: int, labels: Sequence[str], preset: str) -> None:
        super().__init__(given, classes, labels, preset)
        self.options = options

    def stem(self, kind: str, widths: Choices) -> Stem:
        """The stem of that kind with these widths."""
        raise NotImplementedError

    def head(self) -> Head:
        """What answers the task."""
        return Classify(
            classes=self.classes, labels=self.labels, pool="first" if self.options.pool == "cls" else "mean"
        )

    def mixer(self, kind: str, sizes: Choices, embed: int) -> Mixer | None:
        """The mixer of that kind with these widths, in a stream of width `embed`."""
        return mixer_of(kind, sizes, embed)

    @cached_property
    def all_genes(self) -> dict[str, tuple[Option, ...]]:
        """Every choice with its options, including choices with one option."""
        o = self.options
        genes: dict[str, tuple[Option, ...]] = {
            "embed": o.embed,
            "depth": o.depth,
            "stem": o.stem,
            "stem_width": o.stem_width,
        }
        for i in range(o.depth[-1]):
            for name in o.by_block:
                genes[f"b{i}.{name}"] = getattr(o, name)
        weighted = any(has_weights(mixer) for mixer in o.mixer)
        return genes | precision_genes(o.depth[-1], o.precision, mixers=weighted, ffns=any(o.mlp))

    @cached_property
    def coupled(self) -> tuple[tuple[str, ...], ...]:
        """The precision genes, as one set of genes to change together: a uniform precision gives the simplest graph."""
        names = tuple(name for name in self.genes if is_precision(name))
        return (names,) if names else ()

    @property
    def practices(self) -> Mapping[str, Practice]:
        """The best practices (`wb.spaces.practices`)."""
        return asked_of(VIT, self._fixed)

    def active(self, choices: Choices) -> frozenset[str]:
        full = {**self._fixed, **choices}
        names = ["embed", "depth", "stem", *WHOLE]
        names += stem_genes(str(full["stem"]))
        for i in range(int(full["depth"])):
            names += [f"b{i}.mixer", f"b{i}.mlp"]
            mixer = str(full[f"b{i}.mixer"])
            names += [f"b{i}.{name}" for name in mixer_widths(mixer, self.options.widths)]
            names += [f"b{i}.{name}" for name in MIXER if has_weights(mixer)]
            names += [f"b{i}.{name}" for name in ("ffn", *FFN) if full[f"b{i}.mlp"]]
        return frozenset(names) & self.genes.keys()

    def decode(self, choices: Choices) -> Architecture:
        check_choices(self.genes, choices, self.name)
        full = {**self._fixed, **choices}
        embed = int(full["embed"])
        kind = str(full["stem"])
        sizes = {width: full[gene] for gene, width in stem_genes(kind).items()}
        blocks = tuple(self._block(full, i, embed) for i in range(int(full["depth"])))
        architecture = Architecture(
            input=self.input,
            stem=self.stem(kind, sizes),
            stages=(Stage(embed=embed, blocks=blocks, wiring=self._wiring),),
            norm=self._norm,
            position=self._position,
            last=None if self._wiring.normalised else self._norm,
            head=self.head(),
            prefix=1 if self.options.pool == "cls" else 0,
            causal=self.causal,
        )
        return architecture if self.options.precision == ("fp32",) else chosen(architecture, full)

    def traits(self, choices: Choices) -> tuple[float, ...]:
        """The traits of a candidate, which predictors use beside its choices (`wb.spaces.traits`)."""
        from wb.spaces.traits import traits  # imports torch, which listing the spaces must not

        chosen = (*self.options.mixer, *self.options.ffn)
        return traits(self.decode(choices), [kind for kind in (*OFFERED, *FFN_KINDS) if kind in chosen])

    def read(self, architecture: Architecture) -> dict[str, Option]:
        """The choices that describe `architecture`, in the options or not; inactive genes have their first option."""
        a = architecture
        choices = {name: options[0] for name, options in self.all_genes.items()}
        choices |= {"embed": a.stages[0].embed, "depth": len(a.stages[0].blocks), "stem": a.stem.kind}
        choices |= {gene: getattr(a.stem, width) for gene, width in stem_genes(a.stem.kind).items()}
        for i, block in enumerate(a.stages[0].blocks):
            choices |= {f"b{i}.{name}": value for name, value in self._encoded(block, a.stages[0].embed).items()}
        return choices | kept_by_gene(a.model_copy(update={"stages": a.stages[:1]}))

    def encode(self, architecture: Architecture) -> dict[str, Option]:
        a, choices = architecture, self.read(architecture)
        found = {name: value for name, value in choices.items() if name in self.genes}
        try:
            same = self.decode(found) == a
        except NotInSpace:
            same = False
        if not same:
            self._explain(a, choices)
        return canonical(self, found)

    def smallest_of_each_precision(self) -> list[Architecture]:
        """The smallest network in each uniform precision, because the smallest file need not be the fastest."""
        first = {name: options[0] for name, options in self.genes.items()}
        found = []
        for wanted in self.options.precision:
            kept = {gene: wanted for gene in self.genes if is_precision(gene) and wanted in self.genes[gene]}
            found.append(self.decode({**first, **kept}))
        return found

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What groups of linear maps may be kept in, from small to large."""
        return self.options.precision

    @property
    def known(self) -> Mapping[str, Architecture]:
        """Ordinary transformers (`wb.spaces.columnar.plain`)."""
        return plain(self)

    @property
    def regular(self) -> Mapping[str, Architecture]:
        """None: its blocks are alike but for their mixers, and the sampler begins with the largest and the smallest."""
        return {}

    def forms(self, architecture: Architecture) -> Iterator[Architecture]:
        """The same network with other switched-off blocks (`wb.spaces.columnar.widening`)."""
        return forms(self, architecture)

    def widening(self, architecture: Architecture) -> str:
        """The `--set` options with which the space contains `architecture` (`wb.spaces.columnar.widening`)."""
        return widening(self, architecture)

    def largest(self, mixer: str | None = None) -> Architecture:
        """The last option of every gene, with `mixer` in every block if one is named."""
        choices = {name: options[-1] for name, options in self.genes.items()}
        if mixer is not None:
            choices |= {name: mixer for name in self.genes if name.endswith(".mixer")}
        return self.decode(choices)

    def tops(self) -> tuple[Architecture, ...]:
        """The largest network with each stem, mixer and feed-forward everywhere: together they have every parameter."""
        mixers: list[str] = [mixer for mixer in self.options.mixer if mixer != NONE] or [NONE]
        fixed = {name: options[-1] for name, options in self.genes.items()}
        kinds = [
            {"stem": stem, "mixer": mixer, "ffn": ffn}
            for stem in self.options.stem
            for mixer in mixers
            for ffn in self.options.ffn
        ]
        return tuple(
            self.decode(fixed | {name: kind[last] for name in self.genes if (last := name.split(".")[-1]) in kind})
            for kind in kinds
        )

    def _block(self, full: Choices, i: int, embed: int) -> Block:
        ratio = float(full[f"b{i}.mlp"])
        ffn = ffn_of(str(full[f"b{i}.ffn"]), ratio, embed) if ratio else None
        sizes = {name: full[f"b{i}.{name}"] for name in self.options.widths}
        return Block(mixer=self.mixer(str(full[f"b{i}.mixer"]), sizes, embed), ffn=ffn)

    def _encoded(self, block: Block, embed: int) -> dict[str, Option]:
        """The active genes of one block, without its prefix."""
        found: dict[str, Option] = {"mixer": NONE if block.mixer is None else block.mixer.kind, "mlp": 0.0}
        if block.ffn is not None:
            kind, width = block.ffn.kind, width_of(block.ffn)
            fitting = [one for one in self.options.mlp if one and width_for(block.ffn, one, embed) == width]
            found |= {"ffn": kind, "mlp": fitting[0] if fitting else ratio_of(block.ffn, embed)}
        return found if block.mixer is None else found | sizes_of(block.mixer, self.options.widths)

    @cached_property
    def _wiring(self) -> Wiring:
        return WIRING_KINDS[self.options.wiring]()

    @cached_property
    def _norm(self) -> Norm:
        return NORM_KINDS[self.options.norm]()

    @cached_property
    def _position(self) -> Position:
        return POSITION_KINDS[self.options.position]()

    def _explain(self, a: Architecture, choices: Choices) -> None:
        wirings, norms = [stage.wiring for stage in a.stages], [a.norm, *(b.norm or a.norm for _, _, b in a.blocks())]
        parts = (
            ("wiring", self._wiring, wirings),
            ("norm", self._norm, norms),
            ("position", self._position, [a.position]),
        )
        for name, own, given in parts:
            other = next((part for part in given if part.kind != own.kind), None)
            if other is not None:
                verb = "is" if name == "wiring" else "has"
                networks = f"networks with {own.title}" if name == "position" else f"{own.title} networks"
                raise NotInSpace(
                    f"architecture {a.key} {verb} {other.title}, but space {self.name!r} has {networks} only; give one with "
                    f"{name}={own.kind!r}"
                )
        for name, value in choices.items():
            options = self.all_genes.get(name, ())
            if value not in options:
                raise NotInSpace(
                    f"{name}={value!r} is not in space {self.name!r} ({', '.join(map(str, options)) or 'no such block'})"
                )
        raise NotInSpace(
            f"architecture {a.key} is not in space {self.name!r}: its input, task or operator settings are others"
        )
