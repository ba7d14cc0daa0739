"""What two processes compute together, beside what one does: run by `test_pair.py`, once as each of them.

The first one writes the largest differences to a file in JSON. The second ends without a word while the first waits for it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.catalogue import DECODERS, TEXT
from tests.networks import random_model
from wb.core.architecture import Architecture
from wb.core.records import ImageInput
from wb.data import load
from wb.data.split import Split
from wb.data.texts.passages import Passages
from wb.data.texts.vocabulary import vocabulary_of
from wb.models.network import Network, skeleton
from wb.scale.joining import board, joined
from wb.scale.ring.attention import FORMS, Spread, bytes_sent, whole
from wb.scale.ring.blocks import Rule
from wb.scale.ring.channel import Channel
from wb.scale.ring.order import order
from wb.scale.team import ALONE, ProcessLost, Team
from wb.search.supernet import Supernet, sandwich
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.tasks.known import task_of
from wb.training.fit import Backward, Batch, fit
from wb.training.linear import decayed
from wb.training.optimizer import Optimizer
from wb.training.recipes.losses import distilled
from wb.training.recipes.recipe import OptimizerName, Recipe
from wb.training.recipes.schedule import Rates
from wb.training.shared import sharded
from wb.training.shared.sharded import Sharded
from wb.training.shared.spreading import spread
from wb.training.train import score

BATCH, HEADS, TOKENS = 2, 3, 16
TEXTS = "to be or not to be that is the question " * 12


def furthest(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    return max(float((first[name] - second[name]).detach().abs().max()) for name in first)


def attention(team: Team) -> dict[str, float]:
    """Differences to all tokens in one process, forwards and backwards, for both forms; and of bytes sent to the formula."""
    found = dict[str, float]()
    torch.manual_seed(0)
    counts = torch.rand(BATCH, TOKENS) > 0.3
    drawn = [torch.randn(BATCH, HEADS, TOKENS, d, dtype=torch.float64) for d in (4, 4, 5, 5)]
    own = order(TOKENS, team.place, team.sequence)
    for form in FORMS:
        among = Spread(Channel.of(team), form)

        def run(by: Spread, at: Tensor, rule: Rule, some: Tensor | None) -> list[Tensor]:
            q, k, v = (x[:, :, at].clone().requires_grad_() for x in drawn[:3])
            y = by.attend(q, k, v, rule, None if some is None else some[:, at])
            return [y, *torch.autograd.grad(y, (q, k, v), drawn[3][:, :, at])]

        for rule in (Rule(), Rule(causal=True), Rule(causal=True, reach=3)):
            for some in (None, counts):
                before = among.channel.sent
                ours = run(among, own, rule, some)
                if some is None:
                    entries = BATCH * HEADS * 4, BATCH * HEADS * 5
                    expected = sum(bytes_sent(2, TOKENS // 2, *entries, 8))
                    found[f"bytes {form} {rule}"] = among.channel.sent - before - expected
                theirs = run(whole(form), torch.arange(TOKENS), rule, some)
                pairs = zip(ours, theirs, strict=True)
                found[f"{form} {rule} {some is None}"] = max(float((a - b[:, :, own]).abs().max()) for a, b in pairs)
    return found


def supernet(team: Team, dtype: torch.dtype, split: Split, recipe: Recipe) -> dict[str, nn.Parameter]:
    """The weights of the supernet of the demo, of fewer blocks, after a training by the sandwich rule."""
    image = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.3,))
    space = Vit(options_with(TINY, {"embed": [16, 32], "depth": [1, 2]}), image, 10)
    there = Supernet.fresh(space, team.rank)  # other weights in each: those of the first one count
    there.weights = {name: nn.Parameter(weight.detach().to(dtype)) for name, weight in there.weights.items()}
    return trained(there.weights, sandwich(there, recipe, 0, 0.2), split, recipe, team, space.tops(), dtype)


def trained(
    weights: dict[str, nn.Parameter],
    backward: Backward,
    split: Split,
    recipe: Recipe,
    team: Team,
    networks: Sequence[Architecture],
    dtype: torch.dtype | None = None,
) -> dict[str, nn.Parameter]:
    decays = {name for one in networks for name in decayed(skeleton(one))}

    def cast(batch: Batch) -> float:
        return backward(batch if dtype is None else replace(batch, inputs=batch.inputs.to(dtype)))

    fit(weights, cast, split, recipe, seed=0, decayed=decays, team=team)
    return weights


def decoder(team: Team) -> tuple[dict[str, nn.Parameter], float]:
    """Weights of a decoder that is trained in float64, and its perplexity."""
    a = DECODERS["rotary"]
    passages = Passages.of(TEXTS, vocabulary_of([TEXTS], "characters", TOKENS, prose=True), "the text")
    given = TEXT.model_copy(update={"length": TOKENS, "vocabulary": passages.vocabulary.size})
    a = a.model_copy(update={"input": given})
    network: Network = random_model(a).network().double()
    recipe, task = Recipe(epochs=2, batch=8, augment="none"), task_of(a)
    with spread(team, network):
        weights = trained(
            dict(network.named_parameters()), distilled(network, None, recipe, task), passages, recipe, team, [a]
        )
    return weights, score(network, passages, task, torch.device("cpu"), team=team).value


def divided(team: Team, kind: OptimizerName) -> dict[str, float]:
    """How far weights and states are from those of a whole optimizer, before and after each continues what the other left."""
    torch.manual_seed(0)
    recipe = Recipe(optimizer=kind)
    there = [nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(4, 4)) for _ in range(2)]
    there[1].load_state_dict(there[0].state_dict())
    ours, theirs = (dict(net.named_parameters()) for net in there)
    decays = {"0.weight", "1.weight", "2.weight"}
    matrices = dict.fromkeys(decays, 1)
    made: list[Sharded | Optimizer] = [
        Sharded(team, ours, recipe, decayed=decays, matrices=matrices),
        Optimizer(theirs, recipe, decayed=decays, matrices=matrices),
    ]

    def steps() -> float:
        for _ in range(3):
            grads = {name: torch.randn(weight.shape) for name, weight in ours.items() if not name.startswith("2")}
            for optimizer, weights in zip(made, (ours, theirs), strict=True):
                optimizer.zero_grad()
                for name, grad in grads.items():
                    weights[name].grad = grad.clone()
                optimizer.step(Rates(0.01, 0.9))
        return furthest(ours, theirs)

    found = {"weights": steps()}
    left = [made[0].state_dict(), deepcopy(made[1].state_dict())]
    if team.leads:
        pairs = [(left[0][one]["state"], left[1][one]["state"]) for one in left[0] if left[1][one] is not None]
        found["states"] = sum(set(a) != set(b) for a, b in pairs) + sum(
            float((a[i][name] - b[i][name]).abs().max()) for a, b in pairs for i in b for name in b[i]
        )
        made[1].load_state_dict(left[0])  # one that is whole goes on with what parts left
    made[0] = Sharded(team, ours, recipe, decayed=decays, matrices=matrices)
    made[0].load_state_dict(left[1])
    found["again"] = steps()
    assert isinstance(made[0], Sharded)
    found["held"] = made[0].held()
    return found


def lost(team: Team) -> str:
    """What the first process hears of the second, which ends while it waits."""
    if not team.leads:
        os._exit(0)
    begun = time.monotonic()
    try:
        team.reduce({}, 1.0, 0.0)
    except ProcessLost as error:
        return f"{time.monotonic() - begun < 60} {error}"
    return "nothing"


def beside(team: Team, first: Callable[[Team], dict[str, nn.Parameter]]) -> float:
    """How far weights are from those of one process."""
    ours = first(team)
    return furthest(ours, first(ALONE)) if team.leads else 0.0


def main(out: Path) -> None:
    """All of it; `out` is a folder."""
    torch.set_num_threads(1)
    digits = load("digits").train
    found: dict[str, object] = {}
    board().leave("word", "there") if board().found("word") is None else None
    found["word"] = board().awaited("word")
    with joined(2) as team:
        found["attention"] = attention(team)
        ours, value = decoder(team)
        if team.leads:
            theirs, other = decoder(ALONE)
            found["decoder"], found["perplexity"] = furthest(ours, theirs), value - other
    replaced = Team(team.rank, team.count)
    with joined() as team:
        assert team == replaced
        found["divided"] = {kind: divided(team, kind) for kind in ("adamw", "muon")}
        few = digits.take(slice(0, 65))  # the last batch has one image: one process has none
        large, sharded.LARGE = sharded.LARGE, 0
        found["float64"] = beside(
            team, lambda one: supernet(one, torch.float64, few, Recipe(epochs=1, batch=16, flip="off"))
        )
        sharded.LARGE = large
        epoch = digits.take(slice(0, 512))
        found["float32"] = beside(
            team, lambda one: supernet(one, torch.float32, epoch, Recipe(epochs=1, batch=128, flip="off"))
        )
        path = out / "content"
        if team.leads:
            path.write_bytes(b"content")
        with team.copied(path) as copy:
            found["copied"] = copy.read_bytes().decode()
        with team.copied(out / "none") as copy:
            found["none"] = copy.exists()
        found["lost"] = lost(team)
    (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
