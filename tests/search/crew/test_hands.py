"""Processes that train side by side: they make what one process makes, and their end harms nothing."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from wb.core.architecture import Architecture
from wb.core.space import random_choices
from wb.data import load as load_data
from wb.models.model import Model, load
from wb.models.passes.base import apply
from wb.search.beginning.config import SearchConfig
from wb.search.crew.hands import START_S, Hands, Order, hands_of, unsaid
from wb.search.fidelity.teacher import largest
from wb.search.results.curves import Curves, read_curves
from wb.search.run import Run
from wb.search.supernet import Supernet
from wb.search.trained.start import space_of
from wb.training.fit import Recipe, TrainingDiverged
from wb.training.train import Finetune

CONFIG = SearchConfig(data="digits", preset="tiny", limit=64)


def test_hands_make_what_one_process_makes_and_one_that_is_killed_harms_nothing(tmp_path: Path) -> None:
    data, run = load_data(CONFIG.data, limit=CONFIG.limit), Run(tmp_path)
    supernet = Supernet.fresh(space_of(CONFIG, data), 0)
    supernet.save(run.supernet_path)
    rng, recipe = random.Random(0), Recipe(epochs=2, batch=16)
    networks = [supernet.space.decode(random_choices(supernet.space, rng)) for _ in range(2)]

    def alone(architecture: Architecture) -> Model:
        tune = Finetune(data, recipe, largest(supernet), CONFIG.seed)
        return apply(tune, supernet.extract(architecture, data.train))

    told: list[str] = []
    before = multiprocessing.active_children()
    with Hands(CONFIG, tmp_path, 2, told.append) as hands:
        orders = {i: Order(a, recipe, tmp_path / f"{i}.safetensors", curve=str(i)) for i, a in enumerate(networks)}
        glances: list[int] = []
        assert sorted(hands(orders, lambda: glances.append(Curves(run.curves_path).epochs("1")))) == [0, 1]
        assert glances == sorted(glances)
        assert glances[-1] == 2
        for i, order in orders.items():
            made, own = load(order.out), alone(order.architecture)
            assert made.architecture == own.architecture
            assert made.history == own.history
            for name, weight in own.weights.items():
                torch.testing.assert_close(made.weights[name], weight)
            assert [epoch for epoch, _ in read_curves(run.curves_path)[str(i)]] == [1, 2]
        long = Recipe(epochs=10_000, batch=16)
        orders = {i: Order(a, long, tmp_path / f"l{i}.safetensors") for i, a in enumerate(networks)}
        process = next(one for one in multiprocessing.active_children() if one not in before)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert list(hands(orders)) == []
        assert hands.count == 1
    assert len(told) == 1
    assert told[0].startswith("a process that trained ended early (")
    assert [one for one in multiprocessing.active_children() if one not in before] == []


def test_an_interruption_ends_what_they_are_at(tmp_path: Path) -> None:
    """They end with the block, however long what they do takes, here to read data that nobody sends."""
    os.mkfifo(tmp_path / "never.npz")
    before = multiprocessing.active_children()
    config = SearchConfig(data=f"npz:{tmp_path / 'never.npz'}")
    with suppress(KeyboardInterrupt), Hands(config, tmp_path, 2, print) as hands:
        hands._submitted(Order(space_of(CONFIG, load_data("digits", limit=20)).smallest(), Recipe(), tmp_path / "x"))
        raise KeyboardInterrupt
    assert [one for one in multiprocessing.active_children() if one not in before] == []


def test_they_start_for_what_takes_longer_than_their_start(tmp_path: Path) -> None:
    hands = Hands(CONFIG, tmp_path, 2, print)
    assert [hands.pay(seconds) for seconds in (START_S, 3 * START_S, None)] == [False, True, True]
    assert not Hands(CONFIG, tmp_path, 1, print).pay(None)


class Done:
    """A pool whose trainings are over at once; those of all examples diverge."""

    def __init__(self) -> None:
        self.ended = False

    def submit(self, _: object, order: Order) -> Future[None]:
        future: Future[None] = Future()
        if order.whole:
            future.set_exception(TrainingDiverged("the loss is nan"))
        else:
            future.set_result(None)
        return future

    def shutdown(self, **_: object) -> None:
        self.ended = True


def test_one_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    said: list[str] = []
    hands, pool = Hands(CONFIG, tmp_path, 2, said.append), Done()
    hands._pool = pool  # type: ignore[assignment]
    network = space_of(CONFIG, load_data("digits", limit=20)).smallest()
    orders = {name: Order(network, Recipe(), tmp_path / name, whole=name == "b") for name in "abc"}
    assert sorted(hands(orders)) == ["a", "c"]
    assert (hands.count, said, pool.ended) == (2, [], False)


def test_there_are_no_more_than_workers_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.search.crew.hands.usable_cores", lambda: tuple(range(8)))
    monkeypatch.setattr("wb.search.crew.hands.pick_device", lambda: torch.device("cpu"))
    assert [hands_of(workers, threads) for workers, threads in ((1, 1), (4, 1), (16, 1), (4, 4), (4, 16))] == [
        1,
        4,
        8,
        2,
        1,
    ]
    assert hands_of(4, 1, "auto") == 1


def test_two_train_in_a_given_time_if_nothing_is_said_and_their_data_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, texts = load_data("digits", limit=64), load_data("listops", limit=60)
    timed = CONFIG.model_copy(update={"time": "5min"})
    assert [unsaid(CONFIG, digits), unsaid(timed, digits), unsaid(timed, texts)] == [1, 2, 2]
    monkeypatch.setattr("wb.search.crew.hands.HELD", 64 * 64)
    assert unsaid(timed, digits) == 1, "of 8x8, more than a validation split beside them"
