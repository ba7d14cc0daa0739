"""Depth analysis: what each sub-layer adds to the residual stream, and how the output changes without it.

A sub-layer is a mixer or a feed-forward; its contribution c is what it adds to the residual stream h. Sub-layers are named
`s0.b3.mixer`, `s0.b3.ffn` and counted in order of execution. In a post-norm network the stream is normalised after every
contribution; a sub-layer is skipped together with its norm.

Source: Csordás et al., "Do Language Models Use Their Depth Efficiently?", 2025, https://arxiv.org/abs/2505.13898: norms
and cosines, effects of skipping, direct effects, logit lens, depth score. Men et al., "ShortGPT", 2024:
block influence.
Differs: images instead of prompts, one output per image; in decoders one at every place of a passage. Sub-layers are skipped one
by one instead of whole layers. A later sub-layer whose contribution is only rounding has no relative change. Between stages a
merge changes width and number of tokens; every later sub-layer is compared with itself, and the logit lens runs the merges that
are still to come. The depth score counts sub-layers from 1.
Limits: effects on later tokens alone are left out, because tokens of an image have no order (in a decoder the changes are those
of all tokens); residual erasure and integrated
gradients are left out too. With up to five classes the overlap of the likeliest five is always 1. Maxima are over the
analysed images and grow with their number. Skipping two sub-layers together may change more than the sum of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from wb.compress.depth.chain import Chain, Trace, chosen
from wb.compress.depth.effect import Tally, cosine, overlap, relative, relative_change, tokens
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.records.base import is_none
from wb.core.specs import NO_LABEL
from wb.data import Split
from wb.data.batches import batches, scored_at_once
from wb.data.dataset import Progress
from wb.models.model import Model
from wb.models.walk import Kind
from wb.tasks.base import Grades, Task
from wb.tasks.known import task_of

LIKELIEST = 5  # classes that the logit lens compares
LENS = ("kl", "overlap", "agreement")

Measure = Literal["accuracy", "nats"]  # what a row has of the quality without it
Matrix = tuple[tuple[float | None, ...], ...]  # [skipped][later]; None where later does not come after skipped


class OutputEffect(Frozen):
    """The change of the class probabilities y when one sub-layer is skipped.

    `distance` is the mean of ‖y − ȳ‖₂ over the images and `most` its maximum; `kl` the mean of KL(y ‖ ȳ) in nats;
    `agreement` the share of images with the same first choice; `accuracy` the accuracy without the sub-layer. Where a network
    foresees tokens all are means over the tokens (`most` is that of a passage), and `nats` is what a token costs without it.
    """

    distance: float
    most: float
    kl: float
    agreement: float
    accuracy: Annotated[float | None, Field(exclude_if=is_none)] = None
    nats: Annotated[float | None, Field(exclude_if=is_none)] = None

    @property
    def quality(self) -> float:
        """The accuracy, or the nats of a token."""
        return _either(self.accuracy, self.nats)


class SublayerRow(Frozen):
    """One sub-layer. Means over images and tokens: `ratio` of ‖c‖/‖h‖, `cosine` of the angle between c and h.

    `later` is the largest relative change ‖c − c̄‖/‖c‖ of any later contribution at any token when this one is skipped, and
    `later_mean` its mean over tokens and later sub-layers; both are 0 for the last one. A cosine below zero erases from
    the stream, about zero writes something new, above zero reinforces.
    """

    name: str
    kind: Kind
    operator: str  # softmax, mlp, …
    ratio: float
    cosine: float
    later: float
    later_mean: float
    output: OutputEffect


class BlockRow(Frozen):
    """One block, mixer and feed-forward together: h is the stream before it, h′ the stream after it.

    `ratio` is the mean of ‖h′ − h‖/‖h‖, `cosine` the mean of cos(h′ − h, h), and `influence` 1 minus the mean of cos(h, h′),
    between 0 and 2.
    """

    name: str
    ratio: float
    cosine: float
    influence: float


class LensRow(Frozen):
    """The logit lens after one sub-layer (`stem`: before the first): the classifier on the stream, against the output y.

    `kl` is the mean of KL(y ‖ lens) in nats, `overlap` the share of the likeliest `min(5, classes)` classes that both
    have, `agreement` the share of equal first choices, `accuracy` the share of right ones, or `nats` what a token costs.
    """

    after: str
    kl: float
    overlap: float
    agreement: float
    accuracy: Annotated[float | None, Field(exclude_if=is_none)] = None
    nats: Annotated[float | None, Field(exclude_if=is_none)] = None

    @property
    def quality(self) -> float:
        """The accuracy, or the nats of a token."""
        return _either(self.accuracy, self.nats)


class DepthAnalysis(Frozen):
    """The result of `analyze_depth`; JSON by `model_dump_json`.

    `change_most` and `change_mean` are the relative changes of later contributions when a sub-layer is skipped, maximum and mean
    over images and tokens. `direct_most` and `direct_mean` are the same for direct effects: only the input of the later
    sub-layer lacks the contribution. `scores` are the depth scores Σ l·e_l / Σ e_l of `contribution` (ratio), `later` (mean) and
    `output` (distance) over the sub-layers l = 1, 2, …; None where all e_l are zero. `quality` is the accuracy, or perplexity,
    of the whole network; `measure` says what of it the rows have. `classes` counts those of an answer: tokens, too.
    """

    images: int
    noun: str = "images"
    classes: int
    measure: Measure = "accuracy"
    quality: Reading
    sublayers: tuple[SublayerRow, ...]
    blocks: tuple[BlockRow, ...]
    lens: tuple[LensRow, ...]
    change_most: Matrix
    change_mean: Matrix
    direct_most: Matrix
    direct_mean: Matrix
    scores: dict[str, float | None]

    @property
    def title(self) -> str:
        """What the rows have of the quality."""
        return "accuracy" if self.measure == "accuracy" else "nat a token"

    @property
    def whole(self) -> float:
        """The same of the whole network."""
        return self.quality.value if self.measure == "accuracy" else math.log(self.quality.value)

    def said(self, value: float) -> str:
        """Such a value as text: `97.31 %`, `2.087 nat a token`."""
        return f"{100 * value:.2f} %" if self.measure == "accuracy" else f"{value:.4g} nat a token"


def analyze_depth(
    model: Model,
    split: Split,
    *,
    batch: int = 64,
    limit: int | None = 512,
    device: torch.device | str = "cpu",
    report: Progress | None = None,
) -> DepthAnalysis:
    """Runs `model` on at most `limit` images of `split`, evenly spaced: once whole, and once without each sub-layer.

    Texts are run one by one, so that no mean is over padding; passages have none.

    Only one batch of contributions is in memory at a time. The cost is about one forward pass per sub-layer;
    `report(done, total)` is called after every batch.

    Raises:
        BadOption: `batch` or `limit` is below 1.
        BadArtefact: the weights do not fit the architecture.
    """
    some = chosen(split, limit)
    batch = scored_at_once(some, batch) if some.vocabulary is None or some.task == "next" else min(batch, 1)
    chain = Chain(model.network(device))
    tally, task, grades = Tally(), task_of(model.architecture), []
    total = -(-len(some) // batch) if batch > 0 else 0
    with torch.inference_mode():
        for done, (images, labels) in enumerate(batches(some, batch, shuffle=False), start=1):
            trace = chain.trace(images.to(device))
            grades.append(task.grade(trace.logits.cpu().numpy(), labels.numpy()).each)
            _look(chain, trace, labels.to(device), tally, task)
            if report is not None:
                report(done, total)
    quality = task.reading(Grades(np.concatenate(grades), some.labels), f"torch {device}")
    return _gather(chain, tally, some, quality)


def _look(chain: Chain, trace: Trace, labels: Tensor, tally: Tally, task: Task) -> None:
    """Adds the measurements of one batch to the tally."""
    _look_at_contributions(chain, trace, tally)
    _look_through_lens(chain, trace, labels, tally, task)
    for s in range(len(chain.sublayers)):
        skipped = chain.skip(trace, s)
        for later, changed in skipped.writes.items():
            change = relative_change(trace.writes[later], changed, trace.inputs[later])
            tally.add(change, "change", s, later)
            tally.add(change, "later", s)
        for later, changed in chain.direct(trace, s):
            tally.add(relative_change(trace.writes[later], changed, trace.inputs[later]), "direct", s, later)
        for name, values in task.effects(trace.logits, skipped.logits, labels).items():
            tally.add(values, name, s, heavy=tokens(labels))


def _look_at_contributions(chain: Chain, trace: Trace, tally: Tally) -> None:
    for i, (h, c) in enumerate(zip(trace.inputs, trace.writes, strict=True)):
        tally.add(relative(c, h), "ratio", i)
        tally.add(cosine(c, h), "cosine", i)
    for name, inside in _blocks(chain):
        h, last = trace.inputs[inside[0]], inside[-1]
        after = chain.sublayers[last].add(trace.states[last], trace.writes[last]).stream
        tally.add(relative(after - h, h), "ratio", name)
        tally.add(cosine(after - h, h), "cosine", name)
        tally.add(1 - cosine(h, after), "influence", name)


def _look_through_lens(chain: Chain, trace: Trace, labels: Tensor, tally: Tally, task: Task) -> None:
    k = min(LIKELIEST, trace.logits.shape[-1])
    seen = [chain.network.end(state) for state in trace.states]
    for depth, logits in enumerate([*seen, trace.logits]):  # after the last sub-layer the lens is the output
        for name, values in task.effects(trace.logits, logits, labels).items():
            tally.add(values, "lens", name, depth, heavy=tokens(labels))
        tally.add(overlap(trace.logits, logits, k), "lens", "overlap", depth, heavy=(labels != NO_LABEL).float())


def _blocks(chain: Chain) -> Iterator[tuple[str, list[int]]]:
    """The blocks that are not switched off, with the indices of their sub-layers."""
    inside: dict[str, list[int]] = {}
    for i, sublayer in enumerate(chain.sublayers):
        inside.setdefault(sublayer.place, []).append(i)
    yield from inside.items()


def _either(accuracy: float | None, nats: float | None) -> float:
    return math.nan if (found := nats if accuracy is None else accuracy) is None else found


def _gather(chain: Chain, tally: Tally, seen: Split, quality: Reading) -> DepthAnalysis:
    a = chain.network.architecture
    measure: Measure = "nats" if a.head.foresees else "accuracy"
    rows = tuple(_row(chain, tally, s, measure) for s in range(len(chain.sublayers)))
    return DepthAnalysis(
        images=len(seen),
        noun=seen.noun,
        classes=a.head.classes or int(a.input.specs()[0].below or 0),
        measure=measure,
        quality=quality,
        sublayers=rows,
        blocks=tuple(
            BlockRow(name=name, **{field: tally.mean(field, name) for field in ("ratio", "cosine", "influence")})
            for name, _ in _blocks(chain)
        ),
        lens=tuple(
            LensRow(after=after, **{name: tally.mean("lens", name, depth) for name in (*LENS, measure)})
            for depth, after in enumerate(["stem", *chain.names])
        ),
        change_most=_matrix(len(rows), lambda s, later: tally.most("change", s, later)),
        change_mean=_matrix(len(rows), lambda s, later: tally.mean("change", s, later)),
        direct_most=_matrix(len(rows), lambda s, later: tally.most("direct", s, later)),
        direct_mean=_matrix(len(rows), lambda s, later: tally.mean("direct", s, later)),
        scores={
            "contribution": depth_score([row.ratio for row in rows]),
            "later": depth_score([row.later_mean for row in rows]),
            "output": depth_score([row.output.distance for row in rows]),
        },
    )


def _row(chain: Chain, tally: Tally, s: int, measure: Measure) -> SublayerRow:
    sublayer = chain.sublayers[s]
    last = s == len(chain.sublayers) - 1
    means = {name: tally.mean(name, s) for name in ("distance", "kl", "agreement", measure)}
    return SublayerRow(
        name=sublayer.name,
        kind=sublayer.kind,
        operator=sublayer.operator.describe().model_dump()["kind"],
        ratio=tally.mean("ratio", s),
        cosine=tally.mean("cosine", s),
        later=0.0 if last else tally.most("later", s),
        later_mean=0.0 if last else tally.mean("later", s),
        output=OutputEffect(most=tally.most("distance", s), **means),
    )


def depth_score(effects: Sequence[float]) -> float | None:
    """The depth score Σ l·e_l / Σ e_l over l = 1, 2, …: the mean depth of the effects; None where all are zero."""
    total = sum(effects)
    return sum(place * effect for place, effect in enumerate(effects, start=1)) / total if total > 0 else None


def _matrix(size: int, value: Callable[[int, int], float]) -> Matrix:
    return tuple(tuple(value(s, later) if later > s else None for later in range(size)) for s in range(size))
