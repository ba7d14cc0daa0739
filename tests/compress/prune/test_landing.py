"""The last round, on a world where what is read differs from what is predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from tests.networks import assembled
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.costs import counted
from wb.compress.nvit.nvit import Pruned
from wb.compress.prune.landing import ATTEMPTS, SLACK, Landing, correct, next_share, read_costs
from wb.compress.prune.stages import Stage
from wb.core.architecture import Architecture, Block, axis_sizes, resize
from wb.core.architecture import Stage as Blocks
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem
from wb.models.model import Model

IMAGE = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
WHOLE = 400


def architecture(width: int) -> Architecture:
    stage = Blocks(embed=8, blocks=(Block(ffn=Mlp(mlp=width)),))
    return assembled(input=IMAGE, stem=PatchStem(patch=2), stages=(stage,), classes=3)


DENSE = architecture(WHOLE)


@dataclass
class World:
    """Networks of one width; what is read is `truth(width)`, in the pace of the moment."""

    metric: str
    truth: Callable[[int], float]
    limit: float
    step: int = 1
    pace: Callable[[int], float] = lambda _: 1.0  # at the nth reading
    share: bool = True  # whether the limit was given as a share
    name: str = ""  # of the stage
    widths: list[int] = field(default_factory=list)  # that were cut
    costs: dict[str, Cost] = field(default_factory=dict)
    readings: int = 0

    def cut(self, state: Pruned, aims: Mapping[str, float]) -> Pruned:
        cost = self.costs[self.metric]
        fits = [w for w in range(1, WHOLE + 1, self.step) if cost(resize(DENSE, {"s0.b0.mlp": w})) <= aims[self.metric]]
        if not fits:
            raise BudgetMissed("nothing is left")
        self.widths.append(max(fits))
        return Pruned(Model(architecture(self.widths[-1]), {}), state.scores, state.rounds + 1)

    def assess(self, models: Mapping[str, Model], **_: object) -> dict[str, dict[str, Reading]]:
        self.readings += 1
        pace = self.pace(self.readings)
        return {
            name: {
                self.metric: Reading(
                    value=pace * self.truth(axis_sizes(model.architecture)["s0.b0.mlp"]), unit="ms", how="measured"
                )
            }
            for name, model in models.items()
        }

    def land(self) -> tuple[int, dict[str, float]]:
        self.costs = {self.metric: counted(DENSE, "macs")}
        cost = self.costs[self.metric]
        if self.metric == "size":  # what a file has besides its weights is added
            cost.constant = self.truth(WHOLE) - cost(DENSE)
        else:
            cost.factor = self.truth(WHOLE) / cost(DENSE)
        shares = {self.metric: self.limit / self.truth(WHOLE)} if self.share else {}
        stage = Stage(self.name, (Limit(METRICS[self.metric], self.limit),), 1, shares)
        told: list[int] = []
        report = lambda what, done, of: told.append(done)  # noqa: E731  # three unused arguments
        landing = Landing(self.cut, lambda model: model, self.assess, stage, Model(DENSE, {}), report)  # type: ignore[arg-type]
        aims, state = landing(Pruned(Model(DENSE, {})))
        assert told == list(range(1, len(self.widths)))
        return axis_sizes(state.model.architecture)["s0.b0.mlp"], aims


def best(world: World) -> int:
    """The largest width within the limit."""
    return max(w for w in range(1, WHOLE + 1, world.step) if world.truth(w) <= world.limit)


@pytest.mark.parametrize(
    "truth",
    [
        pytest.param(lambda w: 1e5 * (1.0 + w / WHOLE), id="a part that is not pruned"),
        pytest.param(lambda w: 1e5 * (0.1 + (w / WHOLE) ** 0.5), id="narrow is inefficient"),
        pytest.param(lambda w: 1e5 * (w / WHOLE) ** 1.3, id="narrow is efficient"),
    ],
)
@pytest.mark.parametrize("metric", ["latency", "size"])
def test_it_lands_just_within_the_limit(truth: Callable[[int], float], metric: str) -> None:
    world = World(metric, truth, 0.7 * truth(WHOLE))
    width, _ = world.land()
    assert (1 - SLACK) * world.limit <= truth(width) <= world.limit


def test_counts_that_are_as_predicted_land_at_once() -> None:
    cost = counted(DENSE, "macs")
    world = World("macs", lambda w: cost(architecture(w)), 0.5 * cost(DENSE))
    assert world.land() == (best(world), {"macs": world.limit})
    assert len(world.widths) == 1


def test_the_drift_of_the_machine_cancels() -> None:
    """It slows down to half its pace between the readings; the ratio to the dense model stays."""
    world = World("latency", lambda w: 1.0 + w / WHOLE, 1.4, pace=lambda n: 1 + min(n, 5) / 5)
    width, _ = world.land()
    assert 1.4 * (1 - SLACK) <= world.truth(width) <= 1.4


def test_an_absolute_limit_knows_no_drift() -> None:
    """On a machine that became a fifth slower, fewer units fit into the same milliseconds."""
    world = World("latency", lambda w: 1.0 + w / WHOLE, 1.5, pace=lambda _: 1.2, share=False)
    width, _ = world.land()
    assert 1.5 * (1 - SLACK) <= 1.2 * world.truth(width) <= 1.5


def test_every_metric_has_an_aim_of_its_own() -> None:
    """Where one is read as predicted and the other is not, only that one is aimed at differently."""
    costs = {"macs": counted(DENSE, "macs"), "size": counted(DENSE, "size")}
    whole = {metric: cost(DENSE) for metric, cost in costs.items()}
    limits = {"macs": 0.9 * whole["macs"], "size": 0.7 * whole["size"]}
    stage = Stage("", tuple(Limit(METRICS[metric], value) for metric, value in limits.items()), 1)
    tried: list[dict[str, float]] = []

    def cut(state: Pruned, aims: Mapping[str, float]) -> Pruned:
        tried.append(dict(aims))
        small = [architecture(w) for w in range(1, WHOLE + 1)]
        fits = [a for a in small if all(costs[metric](a) <= aim for metric, aim in aims.items())]
        return Pruned(Model(fits[-1], {}), state.scores, state.rounds + 1)

    def assess(models: Mapping[str, Model], **_: object) -> dict[str, dict[str, Reading]]:
        def read(a: Architecture) -> dict[str, float]:
            return {"macs": costs["macs"](a), "size": 1.1 * costs["size"](a)}

        return {
            name: {m: Reading(value=value, unit="", how="counted") for m, value in read(model.architecture).items()}
            for name, model in models.items()
        }

    landing = Landing(cut, lambda model: model, assess, stage, Model(DENSE, {}), lambda *_: None)  # type: ignore[arg-type]
    _, state = landing(Pruned(Model(DENSE, {})))
    assert 1 - SLACK <= 1.1 * costs["size"](state.model.architecture) / limits["size"] <= 1
    assert len(tried) > 1
    assert all(aims["size"] < 0.95 * limits["size"] for aims in tried[1:])
    assert all(aims["macs"] >= 0.99 * limits["macs"] for aims in tried)


def test_the_best_of_those_within_is_kept() -> None:
    """Sizes so coarse that none is close to the limit: the largest that keeps it, and no more tries than needed."""
    world = World("size", lambda w: 1e5 * (1.0 + w / WHOLE), 1.7e5, step=100)
    width, _ = world.land()
    assert width == best(world) == 201
    assert len(world.widths) < ATTEMPTS


def test_luck_is_measured_twice() -> None:
    """A network that is over the limit in truth is not accepted for one lucky reading."""
    world = World("latency", lambda w: 1.0 + w / WHOLE, 1.5)
    plain = world.assess
    lucky = [0.9]

    def assess(models: Mapping[str, Model], **_: object) -> dict[str, dict[str, Reading]]:
        found = plain(models)
        factor = lucky.pop() if lucky else 1.0
        reading = found["pruned"]["latency"]
        found["pruned"]["latency"] = reading.model_copy(update={"value": reading.value * factor})
        return found

    world.assess = assess  # type: ignore[method-assign]
    width, _ = world.land()
    assert world.truth(width) <= 1.5 * (1 + SLACK)


def test_a_limit_that_is_never_kept() -> None:
    world = World("latency", lambda w: 1.0 + 1e-9 * w, 0.9)
    with pytest.raises(BudgetMissed, match=r"in the closest latency is 1\.000x of the dense model’s|nothing is left"):
        world.land()


def test_a_model_on_the_way_is_what_came_closest() -> None:
    """Only the end has to keep the budget: a machine that is unsteady at a snapshot loses nothing."""
    world = World("latency", lambda w: 1.0 + 0.1 * w / WHOLE, 0.999, step=57)
    with pytest.raises(BudgetMissed):
        world.land()
    on_the_way = World("latency", world.truth, 0.999, step=57, name="0.9x")
    width, _ = on_the_way.land()
    assert width == min(on_the_way.widths)


def test_the_next_share_stays_between_what_is_known() -> None:
    assert next_share([]) == 1 - SLACK / 2, "the middle of what is close enough"
    assert next_share([], 0.5) == 0.75
    assert next_share([(1.0, 0.25)]) == pytest.approx(0.8, rel=SLACK)
    assert 0.5 < next_share([(1.0, 0.2), (0.5, -0.1)]) < 1.0
    wild = [(1.0, 0.2), (0.9, -0.1), (0.95, -0.101)]  # noise: the line would lead out of what is known
    assert 0.95 < next_share(wild) < 1.0


def test_a_corrected_cost_predicts_what_was_read() -> None:
    costs = {metric: counted(DENSE, "macs") for metric in ("latency", "size", "macs")}
    small = architecture(50)

    def readings(**values: float) -> dict[str, Reading]:
        return {name: Reading(value=value, unit="", how="measured") for name, value in values.items()}

    before = costs["size"](DENSE) - costs["size"](small)
    first = readings(latency=4.0, size=9.0, macs=7.0)
    dense = readings(latency=8.0, size=9.0, macs=7.0)
    values = read_costs(costs, first, dense, readings(latency=3.0, size=2.0, macs=5.0))
    assert read_costs(costs, first, dense, readings(size=2.0)) == {"size": 2.0}, "what was not read is left out"
    correct(costs, small, values)
    assert costs["latency"](small) == pytest.approx(1.5), "at the pace of the first reading"
    assert costs["macs"](small) == pytest.approx(5.0)
    assert costs["size"](small) == pytest.approx(2.0)
    assert costs["size"](DENSE) - costs["size"](small) == pytest.approx(before), (
        "a file's rest is added, not multiplied"
    )
