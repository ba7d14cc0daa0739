"""Space `hybrid`: stages of convolutions on maps and of mixers on tokens, whose blocks are alike within a stage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadData, NotInSpace, WbError
from wb.core.layout import Layout
from wb.core.records import (
    Classify,
    Ffn,
    ImageInput,
    LayerNorm,
    Merge,
    Mixer,
    Mlp,
    Nowhere,
    Precision,
    dims,
    kernels,
    kind_of,
)
from wb.core.records.norms import BatchNorm
from wb.core.records.stems import MobileStem
from wb.core.space import Choices, Option, canonical, check_choices
from wb.spaces.genes import GeneSpace
from wb.spaces.hybrid.options import HybridOptions, StageOptions, fitted, fitting_patch, step
from wb.spaces.hybrid.published import PUBLISHED, USUAL, nearest, offered, regular
from wb.spaces.operators import (
    MAP_FFNS,
    MAP_MIXERS,
    MERGE_KINDS,
    NONE,
    TAUGHT,
    has_gates,
    has_middle,
    mixer_of,
    squared,
    squeezed,
    width_of,
)
from wb.spaces.practices import HYBRID, Practice, asked_of

CATEGORICAL = ("merge", "mixer", "ffn", "act")
MULTIPLE = 8  # widths of hidden layers; 16 is what the runtime's blocks have, 8 is nearly as good


class Hybrid(GeneSpace):
    """The architectures that `options` allow for images of one shape.

    Genes: `stem_width`, and per stage `s1.embed`, `s1.depth`, `s1.merge`, `s1.mixer`, `s1.kernel`, `s1.ffn`, `s1.ratio`,
    `s1.mid`, `s1.se`, `s1.act`, `s1.channels`, which all of its blocks share; a gene with one option is left out.

    Raises:
        BadData: the images are too small for the stages.
        BadOption: options that contradict each other, or exceed the bounds of an architecture.
    """

    name = "hybrid"

    def __init__(
        self,
        options: HybridOptions,
        image: ImageInput,
        classes: int,
        labels: Sequence[str] = (),
        preset: str = "custom",
    ) -> None:
        super().__init__(image, classes, labels, preset)
        self.image = image
        self.patch = options.patch or fitting_patch(image)
        self.options = self._fitted(options)
        self._check_tops("other options")

    @cached_property
    def all_genes(self) -> dict[str, tuple[Option, ...]]:
        """Every choice with its options, including choices with one option."""
        return self.options.choices

    def active(self, choices: Choices) -> frozenset[str]:
        full = {**self._fixed, **choices}
        names = ["stem_width"]
        for i in range(len(self.options.stages)):
            names += [f"s{i}.{name}" for name in ("embed", "depth", "merge")]
            names += [f"s{i}.channels"] if i and dims(MERGE_KINDS[str(full[f"s{i}.merge"])]) else []
            if int(full[f"s{i}.depth"]):
                mixer = str(full[f"s{i}.mixer"])
                names += [f"s{i}.{name}" for name in ("mixer", "ratio")]
                names += [f"s{i}.{name}" for name in (("ffn", "act") if on_map(mixer) else ("channels",))]
                names += [f"s{i}.kernel"] if mixer in TAUGHT and kernels(TAUGHT[mixer]) else []
                ffn = str(full[f"s{i}.ffn"])
                names += [f"s{i}.mid"] if on_map(mixer) and has_middle(ffn) else []
                names += [f"s{i}.se"] if on_map(mixer) and has_gates(ffn) else []
        return frozenset(names) & self.genes.keys()

    def decode(self, choices: Choices) -> Architecture:
        check_choices(self.genes, choices, self.name)
        full = {**self._fixed, **choices}
        stages = tuple(self._stage(full, i) for i in range(len(self.options.stages)))
        return Architecture(
            input=self.image,
            stem=MobileStem.model_validate({"patch": self.patch, "width": full["stem_width"]}),
            stages=stages,
            position=Nowhere(),
            last=LayerNorm() if stages[-1].plane == "tokens" else BatchNorm(),
            head=Classify(classes=self.classes, labels=self.labels),
        )

    def encode(self, architecture: Architecture) -> dict[str, Option]:
        choices = self.read(architecture)
        found = {name: value for name, value in choices.items() if name in self.genes}
        for name, value in choices.items():
            options = self.all_genes.get(name, ())
            if value not in options:
                raise NotInSpace(
                    f"{name}={value!r} is not in space 'hybrid' ({', '.join(map(str, options)) or 'no such stage'})"
                )
        if self.decode(found) != architecture:
            raise NotInSpace(
                f"architecture {architecture.key} is not in space 'hybrid': its input, task, or settings of its blocks are others"
            )
        return canonical(self, found)

    def read(self, architecture: Architecture) -> dict[str, Option]:
        """The choices that describe `architecture`, in the options or not; inactive genes have their first option."""
        choices = {name: options[0] for name, options in self.all_genes.items()}
        choices["stem_width"] = getattr(architecture.stem, "width", 0)
        for i, stage in enumerate(architecture.stages):
            choices |= {f"s{i}.{name}": value for name, value in self._read_stage(stage, i).items()}
        return choices

    def traits(self, choices: Choices) -> tuple[float, ...]:
        """The traits of a candidate, which predictors use beside its choices (`wb.spaces.traits`)."""
        from wb.spaces.traits import traits  # imports torch, which listing the spaces must not

        offered = {str(name) for stage in self.options.stages for name in (*stage.mixer, *stage.ffn)}
        offered |= {kind_of(Mlp)} if any(not on_map(name) for name in offered & TAUGHT.keys()) else set()
        return traits(self.decode(choices), [kind for kind in (*TAUGHT, *MAP_FFNS, kind_of(Mlp)) if kind in offered])

    @property
    def practices(self) -> Mapping[str, Practice]:
        """The best practices (`wb.spaces.practices`)."""
        return asked_of(HYBRID, self._fixed)

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Floating point: `wb quantize` takes what is found to int8, with ranges from data."""
        return ("fp32",)

    @property
    def seeds(self) -> Mapping[str, Callable[[], Architecture]]:
        """The nearest networks to published ones (`wb.spaces.hybrid.published`), `largest` and `smallest`."""
        named = {name: partial(nearest, self, name) for name in PUBLISHED}
        return {**named, "largest": self.largest, "smallest": self.smallest}

    @property
    def known(self) -> Mapping[str, Architecture]:
        """The nearest networks to those published ones that the space offers."""
        return {name: nearest(self, name) for name in offered(self.options)}

    @property
    def regular(self) -> Mapping[str, Architecture]:
        """The published networks that the space offers, at three widths."""
        return regular(self)

    def forms(self, architecture: Architecture) -> Iterator[Architecture]:
        """The network as it is, and without switched-off blocks."""
        yield architecture
        yield architecture.compact()

    def widening(self, architecture: Architecture) -> str:
        """The `--set` options with which the space contains `architecture`; empty if there are none."""
        changes = {}
        for name, value in self.read(architecture).items():
            options = self.all_genes.get(name, ())
            if options and value not in options:
                wider = [*options, value]
                changes[name] = wider if isinstance(value, str) else sorted(float(v) for v in wider)
        texts = {
            name: ",".join(str(v) if isinstance(v, str) else f"{v:g}" for v in values)
            for name, values in changes.items()
        }
        try:
            Hybrid(self.options.replaced(texts), self.image, self.classes, self.labels).encode(architecture)
        except WbError:
            return ""
        return " ".join(f"--set {name}={text}" for name, text in texts.items())

    def smallest_of_each_precision(self) -> list[Architecture]:
        """The smallest network; the space has one precision."""
        return [self.smallest()]

    def largest(self) -> Architecture:
        """The last option of every gene."""
        return self.decode({name: options[-1] for name, options in self.genes.items()})

    def usual(self) -> Architecture:
        """A residual network of middle size, or another convolutional one where the space offers none.

        Raises:
            BadOption: it offers none of them.
        """
        return nearest(self, next((name for name in USUAL if name in offered(self.options)), USUAL[0]))

    def tops(self) -> tuple[Architecture, ...]:
        """The largest networks with each kind of merge, mixer, feed-forward and activation in every stage that offers it.

        Together they have every parameter of the space.
        """
        last = {name: options[-1] for name, options in self.genes.items()}
        kinds = {name: options for name, options in self.genes.items() if name.partition(".")[2] in CATEGORICAL}
        mixers = max((len(options) for name, options in kinds.items() if name.endswith(".mixer")), default=1)
        others = max((len(options) for name, options in kinds.items() if not name.endswith(".mixer")), default=1)
        found = []
        for m, o in itertools.product(range(mixers), range(others)):
            turn = {
                name: options[-1 - (m if name.endswith(".mixer") else o) % len(options)]
                for name, options in kinds.items()
            }
            found.append(self.decode({**last, **turn}))
        return tuple(dict.fromkeys(found))

    def _stage(self, full: Choices, i: int) -> Stage:
        own = {name: full[f"s{i}.{name}"] for name in StageOptions.model_fields if f"s{i}.{name}" in full}
        embed, mixer = int(own["embed"]), str(own["mixer"])
        channels = int(own["channels"])
        # As many heads as the fewest channels allow, whichever are chosen: so the widest network has those of all others.
        heads = max(1, embed // self.options.stages[i].channels[0])
        sizes: Choices = {"heads": heads, "qk": channels, "v": channels}
        norm = BatchNorm() if mixer in MAP_MIXERS and not MAP_MIXERS[mixer].normed else None
        merge = _merge(str(own["merge"]), sizes) if i else None
        merge = merge and squared(merge, self._layout(i - 1), even=True)
        found = _mixer(mixer, own, sizes)
        found = found and squared(found, self._layout(i))
        numbers = range(int(own["depth"]))
        blocks = tuple(Block(mixer=found and found.in_block(n), ffn=_ffn(own), norm=norm) for n in numbers)
        plane = "map" if on_map(mixer) else "tokens"
        return Stage.model_validate({"embed": embed, "blocks": blocks, "merge": merge, "plane": plane})

    def _read_stage(self, stage: Stage, i: int) -> dict[str, Option]:
        found: dict[str, Option] = {"embed": stage.embed, "depth": len(stage.blocks)}
        if stage.merge is not None:
            found |= {"merge": stage.merge.kind, **_channels(stage.merge)}
        if not stage.blocks:
            return found
        block, options = stage.blocks[0], self.options.stages[min(i, len(self.options.stages) - 1)]
        mixer, ffn = block.mixer, block.ffn
        found |= {"mixer": NONE} if mixer is None else {"mixer": mixer.kind, **_channels(mixer)}
        if mixer is not None and kernels(type(mixer)):
            found["kernel"] = getattr(mixer, kernels(type(mixer))[0])
        if stage.plane == "map" and ffn is not None:
            found |= {"ffn": ffn.kind, "act": getattr(ffn, "activation", "")}
            found |= {"mid": getattr(ffn, "kernel", 0)} if has_middle(ffn.kind) else {}
            found |= {"se": _share(squeezed(ffn), width_of(ffn), options.se)} if has_gates(ffn.kind) else {}
        width = 0 if ffn is None else width_of(ffn)
        share = MAP_FFNS[ffn.kind].share if stage.plane == "map" and ffn is not None else 1.0
        return found | {"ratio": _share(width, share * stage.embed, options.ratio)}

    def _layout(self, i: int) -> Layout:
        """The places of a stage."""
        side = self.patch * 2**i
        return Layout((-(-self.image.height // side), -(-self.image.width // side)))

    def _fitted(self, options: HybridOptions) -> HybridOptions:
        if (found := fitted(options, self.image)) is not None:
            return found
        unit = step(options, self.image)
        near = max(unit, unit * round(min(self.image.height, self.image.width) / unit))
        raise BadData(
            f"images of {self.image.height}x{self.image.width} cannot be halved as often as {len(options.stages)} stages need: "
            f"multiples of {unit} can always be; choose --image-size {near}, another preset (see `wb spaces`), or --space vit"
        )


def on_map(mixer: str) -> bool:
    """Whether a stage with that mixer is a map."""
    return mixer == NONE or mixer in MAP_MIXERS


def hidden_width(ratio: float, embed: float) -> int:
    """The width of a hidden layer: a multiple of eight."""
    return max(MULTIPLE, MULTIPLE * round(ratio * embed / MULTIPLE))


def _share(width: int, whole: float, options: Sequence[float]) -> float:
    """Which option makes a hidden layer of that width for one of `whole`, or what would."""
    if not width:
        return 0
    fitting = [ratio for ratio in options if ratio and hidden_width(ratio, whole) == width]
    return fitting[0] if fitting else width / whole


def _channels(part: Mixer | Merge) -> dict[str, Option]:
    """The gene `channels` of a part with attention: the channels of one head. Other parts have no such gene."""
    sizes = {width: getattr(part, width) for width in dims(type(part))}
    return {"channels": sizes["qk"]} if "qk" in sizes else {}


def _merge(kind: str, sizes: Choices) -> Merge:
    """The merge of that kind: with heads of these `sizes` if it is attention, with ReLU if it can have an activation."""
    record = MERGE_KINDS[kind]
    active = {"activation": "relu"} if "activation" in record.model_fields else {}
    return record.model_validate({name: sizes[name] for name in dims(record)} | active)


def _mixer(kind: str, own: Choices, sizes: Choices) -> Mixer | None:
    """The mixer of a stage with those choices, with heads of these `sizes` if it is attention."""
    if kind == NONE:
        return None
    if kind in MAP_MIXERS:
        return MAP_MIXERS[kind].model_validate(dict.fromkeys(kernels(MAP_MIXERS[kind]), own["kernel"]))
    return mixer_of(kind, sizes, int(own["embed"]))


def _ffn(own: Choices) -> Ffn:
    """The feed-forward of a stage with those choices."""
    if not on_map(str(own["mixer"])):
        return Mlp(mlp=hidden_width(float(own["ratio"]), int(own["embed"])))
    kind = str(own["ffn"])
    width = hidden_width(MAP_FFNS[kind].share * float(own["ratio"]), int(own["embed"]))
    inner: dict[str, object] = {"kernel": own["mid"]} if has_middle(kind) else {}
    if has_gates(kind) and own["se"]:
        inner["se"] = {"width": hidden_width(float(own["se"]), width)}
    return MAP_FFNS[kind].model_validate({"mlp": width, "activation": own["act"], **inner})
