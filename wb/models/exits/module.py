"""A network that can be left early: a head and a gate after some of its blocks.

Source: Ahmed et al., "ECO-M2F: Efficient Transformer Encoders for Mask2Former-style models", 2024,
https://arxiv.org/abs/2404.15244: exits, and a gate that chooses one. Teerapittayanon, McDanel and Kung, "BranchyNet", 2016,
https://arxiv.org/abs/1709.01686: a decision at every exit, from its own answer.
Differs: one gate per exit, which reads the answer there, instead of one for all exits in front of the first. A gate is
one number, how probable the likeliest class has to be: at a batch of one each further operation costs a microsecond, and
gates that were linear in all probabilities saved no more at the same accuracy.
Limits: networks that classify images; what an exit reads are means and norms over places, whatever the network's own head
reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported, printable
from wb.models.exits.record import Exits
from wb.models.model import Model
from wb.models.network import Network
from wb.models.walk import State

PREFIX = "exits"  # of the names of parameters


ALWAYS, NEVER = -1.0, 2.0  # thresholds that every probability exceeds, and none


def check_trunk(architecture: Architecture) -> None:
    """Raises `Unsupported` for a network that cannot have exits: one that takes texts."""
    if architecture.input.usual_tokens is not None or not architecture.head.classes:
        raise Unsupported("early exits are for networks that classify images, and this one takes texts; leave them out")


def sure(answer: Tensor) -> Tensor:
    """What a gate reads of an answer: the probability of its likeliest class, (B, C) -> (B)."""
    return answer.softmax(dim=1).amax(dim=1)


def pooled(x: Tensor, prefix: int, views: int = 1) -> Tensor:
    """Means and norms of the channels over places: tokens (B, N, D) or a map (B, D, rows, columns) -> (B, 2 D).

    Tokens without a place are left out; of several `views` of an image it is the mean.
    """
    if x.dim() == 3:
        x = (x[:, prefix:] if prefix else x).transpose(1, 2)[..., None]
    found = torch.cat([x.mean(dim=(2, 3)), x.norm(dim=(2, 3))], dim=1)
    return found if views == 1 else found.unflatten(0, (-1, views)).mean(dim=1)


class ExitModule(nn.Module):
    """One exit: a linear map on standardised pooled features, and its gate.

    `centre` and `factor` (2 D) standardise; they and the gate, a probability, are not trained by gradients of the network's
    loss.
    """

    def __init__(self, embed: int, classes: int) -> None:
        super().__init__()
        features = 2 * embed
        self.centre = nn.Parameter(torch.zeros(features), requires_grad=False)
        self.factor = nn.Parameter(torch.ones(features), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(classes, features))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.gate = nn.Parameter(torch.tensor(NEVER), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        """The answer: (B, 2 D) -> (B, C)."""
        weight = self.weight * self.factor
        return F.linear(features, weight, self.bias - weight @ self.centre)

    def leaves(self, answer: Tensor) -> Tensor:
        """Where the network is to be left with that answer: (B, C) -> (B)."""
        return sure(answer) > self.gate


class ExitingNetwork(nn.Module):
    """A trunk, and exits after the blocks that the record names.

    Called with images it gives every image the answer of the first exit that its gate leaves by, or the trunk's own, and does not
    compute further than the last image needs.
    """

    def __init__(self, trunk: Network, record: Exits) -> None:
        super().__init__()
        a = trunk.architecture
        check_trunk(a)
        self.trunk, self.record = trunk, record
        stages = {name: stage for name, stage, _ in a.blocks()}
        self.exits = nn.ModuleList(ExitModule(stages[name].embed, a.head.classes) for name in record.after)

    def exit(self, number: int) -> ExitModule:
        """One of the exits."""
        return cast(ExitModule, self.exits[number])

    def states(self, images: Tensor) -> Iterator[State]:
        """The state after each block that has an exit, then that at the end; each is computed when it is asked for."""
        state, wanted = self.trunk.begin(images), iter((*self.record.after, None))
        following = next(wanted)
        for name, part in self.steps():
            state = part(state)
            if name == following:
                yield state
                following = next(wanted)
        yield state

    def steps(self) -> Iterator[tuple[str, Block]]:
        """Every block by name, as a step from state to state."""
        for i in range(len(self.trunk.stages)):
            for j, _ in enumerate(self.trunk.blocks(i)):
                yield f"s{i}.b{j}", Block(self.trunk, i, j)

    def features(self, state: State) -> Tensor:
        """What an exit reads of the state behind a block: (B, 2 D)."""
        stream = self.trunk.wiring(state.stage).end(state)
        return pooled(stream, self.trunk.layouts[state.stage].prefix, self.trunk.architecture.input.views)

    def everything(self, images: Tensor) -> list[Tensor]:
        """The answers of all exits and, the last, of the trunk: each (B, C)."""
        *early, last = self.states(images)
        answers = [self.exit(k)(self.features(state)) for k, state in enumerate(early)]
        return [*answers, self.trunk.end(last)]

    def left_at(self, answers: list[Tensor]) -> Tensor:
        """The number of the exit that each image leaves by, given all answers: (B), as many as there are exits for none."""
        found = torch.full((len(answers[-1]),), len(self.exits), device=answers[-1].device)
        for k in reversed(range(len(self.exits))):
            found[self.exit(k).leaves(answers[k])] = k
        return found

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) -> (B, C)."""
        states = self.states(images)
        found = self._answer(0, next(states))
        gone = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for k in range(len(self.exits)):
            gone = gone | self.exit(k).leaves(found)
            if bool(gone.all()):
                break
            found = torch.where(gone[:, None], found, self._answer(k + 1, next(states)))
        return found

    def _answer(self, number: int, state: State) -> Tensor:
        if number == len(self.exits):
            return self.trunk.end(state)
        return cast(Tensor, self.exit(number)(self.features(state)))


class Block(NamedTuple):
    """A step of the walk: a block, with the merge in front of it where a stage begins."""

    trunk: Network
    stage: int
    block: int

    def __call__(self, state: State) -> State:
        """The state behind it."""
        state = self.trunk.enter(state, self.stage)
        return cast(State, list(self.trunk.blocks(self.stage))[self.block](self.trunk.wiring(self.stage), state))


@dataclass(frozen=True)
class Exiting:
    """A model with early exits: the trunk as a model, the record, and the exits' parameters by name. Never changed in place."""

    trunk: Model
    record: Exits
    weights: Mapping[str, Tensor] = field(repr=False)

    @property
    def architecture(self) -> Architecture:
        """That of the trunk."""
        return self.trunk.architecture

    def network(self, device: torch.device | str = "cpu") -> ExitingNetwork:
        """A network in eval mode with copies of the weights.

        Raises:
            BadArtefact: the weights do not fit.
            Unsupported: a trunk that cannot have exits.
        """
        found = ExitingNetwork(self.trunk.network(), self.record)
        expected = {name: tuple(value.shape) for name, value in own(found).items()}
        given = {name: tuple(value.shape) for name, value in self.weights.items()}
        if expected != given:
            name = min(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
            raise BadArtefact(
                f"the exits' weights do not fit the network, first {printable(name)}: given {given.get(name, 'nothing')}, "
                f"expected {expected.get(name, 'nothing')}"
            )
        found.load_state_dict(dict(self.weights), strict=False)
        return found.to(device).eval()

    def gated(self, gates: Sequence[float], beta: float | None) -> Exiting:
        """The same with other gates, one for each exit."""
        weights = {**self.weights, **{f"{PREFIX}.{k}.gate": torch.tensor(float(gate)) for k, gate in enumerate(gates)}}
        return replace(self, weights=weights, record=self.record.model_copy(update={"beta": beta}))

    def forced(self, number: int) -> Exiting:
        """The same, always left by the exit of that number; by none if there is no such."""
        gates = [ALWAYS if k == number else NEVER for k in range(len(self.record.after))]
        return self.gated(gates, self.record.beta)


def own(network: ExitingNetwork) -> dict[str, Tensor]:
    """Copies of the exits' parameters by name, without the trunk's."""
    found = network.state_dict()
    return {name: value.detach().cpu().clone() for name, value in found.items() if name.startswith(f"{PREFIX}.")}
