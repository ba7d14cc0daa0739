"""Texts without padding: batches of about one length against random ones and against the longest text, scored and trained.

    python benchmarks/padding.py csv:train.csv,test.csv [--network 128x1,256x4] [--markdown]

Times are CPU seconds of one thread, so that other work on the machine is not in them. Of each way of making batches some are
run, spread evenly over their lengths, and the time of all follows. Source of the targets: the figures that buckets had in a
pilot on banking77, 9 times faster scoring and 6 times faster training of one block than with every text padded to the longest.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tables import Output, Table, begin, parser_of, told
from torch import Tensor

from wb.core.architecture import Architecture, Block
from wb.core.records import Mlp, Softmax
from wb.data import Dataset, load
from wb.data.texts.split import Texts
from wb.models.network import Network, build
from wb.spaces.spaces import space_for
from wb.tasks.known import task_of
from wb.training.fit import Batch
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.losses import distilled
from wb.training.recipes.recipe import RecipeOptions
from wb.training.train import dropout_of

LONGEST, RANDOM, BUCKETS = "longest", "random", "buckets"
SCORED_AT, TRAINED_AT = 64, 64  # texts in a batch, as wb scores and trains them
RUN = 50  # batches of each way that are timed, at most; fewer would give the few long texts too much weight
SCORING, TRAINING = 9.0, 6.0  # targets: times faster than the longest
CLOSE = 1e-5  # largest difference of logits, relative to the largest
Rows = NDArray[np.integer]


class Way(NamedTuple):
    """Batches of texts by index, and whether each is padded to the longest of all texts."""

    batches: Sequence[Rows]
    whole: bool = False


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("texts", nargs="?", default="listops", help="data, as wb takes them; listops by default")
    parser.add_argument("--network", default="128x1,256x4", help="width x blocks of each, separated by commas")
    return parser


def network_of(data: Dataset, width: int, blocks: int) -> Architecture:
    """The usual network, with so many blocks of that width, heads of 32 channels and a feed-forward of twice the width."""
    usual = space_for(data).usual()
    (stage,) = usual.stages
    block = Block(mixer=Softmax(heads=width // 32, qk=32, v=32), ffn=Mlp(mlp=2 * width))
    return usual.model_copy(
        update={"stages": (stage.model_copy(update={"embed": width, "blocks": (block,) * blocks}),)}
    )


def ways(split: Texts, size: int, *, training: bool) -> dict[str, Way]:
    """How the texts come in batches: in random order, padded to the longest of all or of the batch, or by length."""
    random = np.random.default_rng(0)
    order = random.permutation(len(split))
    plain = [order[start : start + size] for start in range(0, len(order), size)]
    if training:
        buckets = list(split.drawn(order, size, random.permutation))
    else:
        buckets = [np.arange(len(split))[index] for index in split.together(size)]
    return {LONGEST: Way(plain, whole=True), RANDOM: Way(plain), BUCKETS: Way(buckets)}


def inputs(split: Texts, rows: Rows, *, whole: bool) -> Tensor:
    """The ids of a batch, -1 at padding; `whole` pads to the longest of all texts."""
    ids = torch.from_numpy(split.inputs(rows))
    longest = int(split.ragged.counts.max())
    return torch.nn.functional.pad(ids, (0, longest - ids.shape[1]), value=-1) if whole else ids


def seconds(split: Texts, way: Way, run: Callable[[Tensor, Rows], object]) -> float:
    """CPU seconds of all batches, from at most `RUN` of them."""
    by_length = sorted(way.batches, key=lambda rows: int(split.ragged.counts[rows].max()))
    count = min(RUN, len(by_length))
    some = [by_length[int((i + 0.5) * len(by_length) / count)] for i in range(count)]  # the middle of each share
    run(inputs(split, some[0], whole=way.whole), some[0])
    start = time.process_time()
    for rows in some:
        run(inputs(split, rows, whole=way.whole), rows)
    return (time.process_time() - start) * len(by_length) / len(some)


def scoring(network: Network) -> Callable[[Tensor, Rows], object]:
    """What is timed in scoring."""

    def run(ids: Tensor, rows: Rows) -> object:
        with torch.inference_mode():
            return network(ids)

    return run


def training(network: Network, data: Dataset) -> Callable[[Tensor, Rows], object]:
    """A training step, as `wb.training.fit.fit` does it."""
    recipe = recipe_for(RecipeOptions(), sum(p.numel() for p in network.parameters()), data, 16)
    network.dropout = dropout_of(recipe)
    backward = distilled(network, None, recipe, task_of(network.architecture))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=True)

    def run(ids: Tensor, rows: Rows) -> object:
        optimizer.zero_grad()
        backward(Batch(ids, torch.from_numpy(data.train.labels[rows]), 0, 1))
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        return optimizer.step()

    return run


def difference(network: Network, split: Texts) -> float:
    """The largest difference of logits between texts alone and padded to the longest, relative to the largest logit."""
    rows = np.arange(0, len(split), max(1, len(split) // 64))
    with torch.inference_mode():
        together = network(inputs(split, rows, whole=True))
        alone = torch.cat([network(inputs(split, rows[i : i + 1], whole=False)) for i in range(len(rows))])
    return float((together - alone).abs().max() / together.abs().max())


def measured(data: Dataset, sizes: Sequence[tuple[int, int]]) -> Iterator[tuple[str, str, dict[str, float], float]]:
    """Network, what is done, seconds of each way, and the difference that padding makes."""
    for width, blocks in sizes:
        architecture = network_of(data, width, blocks)
        torch.manual_seed(0)
        network = build(architecture)
        network.reset()
        name = f"{blocks} block{'s' if blocks > 1 else ''} of {width}"
        for what, split, size in (("score", data.test, SCORED_AT), ("train", data.train, TRAINED_AT)):
            if not isinstance(split, Texts):
                raise SystemExit(f"{data.spec} are no texts; give csv:, jsonl: or listops")
            train = what == "train"
            network.train(train)
            run = training(network, data) if train else scoring(network)
            found = {}
            for way, batches in ways(split, size, training=train).items():
                told(f"{name}: {what}, {way}")
                found[way] = seconds(split, batches, run)
            network.eval()
            yield name, f"{what} {len(split):,} texts", found, difference(network, split)


def main() -> int:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    data = load(options.texts)
    sizes = [(int(width), int(blocks)) for width, blocks in (one.split("x") for one in options.network.split(","))]
    return told_of(data, list(measured(data, sizes)), out)


def told_of(data: Dataset, rows: Sequence[tuple[str, str, dict[str, float], float]], out: Output) -> int:
    """Prints the table and the verdict; the exit code."""
    train = data.train
    counts = train.ragged.counts if isinstance(train, Texts) else np.zeros(1)
    table = Table(
        f"CPU seconds by how texts are batched ({SCORED_AT} scored, {TRAINED_AT} trained at once)",
        ("network", "what", LONGEST, RANDOM, BUCKETS, "against longest", "against random", "logits differ"),
        left=("what",),
    )
    for name, what, found, apart in rows:
        longest, random, buckets = found[LONGEST], found[RANDOM], found[BUCKETS]
        times = (f"{longest / buckets:.1f}x", f"{random / buckets:.1f}x", f"{apart:.0e}")
        table.row(name, what, *(f"{one:.3g}" for one in (longest, random, buckets)), *times)
    out.table(table)
    out.say(
        f"Tokens of a training text: mean {counts.mean():.0f}, median {np.median(counts):.0f}, 95 % "
        f"{np.quantile(counts, 0.95):.0f}, longest {counts.max()}. Measured on at most {RUN} batches each, and scaled to all."
    )
    first = rows[0][0]
    gains = {what.split()[0]: found[LONGEST] / found[BUCKETS] for name, what, found, _ in rows if name == first}
    met = gains["score"] >= SCORING and gains["train"] >= TRAINING and all(apart <= CLOSE for *_, apart in rows)
    out.say(
        f"Target, of {first}: {SCORING:g}x faster scoring and {TRAINING:g}x faster training than with every text padded to the "
        f"longest, and logits that differ by at most {CLOSE:g}: {'met' if met else 'missed'} ({gains['score']:.1f}x, "
        f"{gains['train']:.1f}x)."
    )
    return 0 if met else 3


if __name__ == "__main__":
    sys.exit(main())
