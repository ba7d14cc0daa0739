"""Finalists that several processes trained are those that one would have trained, and are read back."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from tests.hands import Here
from wb.core.space import random_choices
from wb.data import load as load_data
from wb.data.dataset import TRAINED_ON, WHOLE
from wb.models.counting import count_macs
from wb.search.beginning.config import SearchConfig
from wb.search.crew.hands import Hands, _Trainer
from wb.search.ending.tuner import Tuner, Wanted, Who
from wb.search.fidelity.teacher import Teacher, largest
from wb.search.results.curves import read_curves
from wb.search.run import Run
from wb.search.supernet import Supernet
from wb.search.trained.start import space_of
from wb.training.fit import Recipe

CONFIG = SearchConfig(data="digits", preset="tiny", limit=64)


def test_networks_trained_ahead_are_read_back_and_are_those_that_one_process_makes(tmp_path: Path) -> None:
    data = load_data(CONFIG.data, limit=CONFIG.limit)
    supernet, rng = Supernet.fresh(space_of(CONFIG, data), 0), random.Random(1)
    networks = {str(i): supernet.space.decode(random_choices(supernet.space, rng)) for i in range(3)}
    runs = {name: Run(tmp_path / name) for name in ("alone", "ahead")}
    for run in runs.values():
        run.folder.mkdir()
        supernet.save(run.supernet_path)
    hands = Here(CONFIG, runs["ahead"].folder, _Trainer(CONFIG, runs["ahead"].folder))

    def tuner(run: Run, hands: Hands) -> Tuner:
        return Tuner(run, supernet, data, lambda _: Recipe(epochs=1, batch=16), CONFIG.seed, hands)

    longest = ["2", "1"]  # of as many epochs, what has more work
    assert count_macs(networks["2"]).value > count_macs(networks["1"]).value
    alone = tuner(runs["alone"], Hands(CONFIG, tmp_path, 1, print))
    ahead = tuner(runs["ahead"], hands)
    found = {}
    for one in (alone, ahead):
        folders = (one.run.staging, one.run.models)
        for folder in folders:
            folder.mkdir(parents=True)
        first = one("0", Wanted(networks["0"], Who(largest(supernet))), folders)
        who = Who(Teacher(first.network()), folders[0] / "0.safetensors")
        wanted = {name: Wanted(a, who, whole=name == "2") for name, a in networks.items()}
        told = list(one.ahead(wanted, folders))
        assert told == (longest if one is ahead else []), "the first is there"
        found[one.run.folder.name] = {name: one(name, a, folders) for name, a in wanted.items()}
        assert [*read_curves(one.run.curves_path)] == ["0", "1"], "of the last only what chose it would be"
    assert hands.done == longest
    assert list(ahead.ahead(wanted, (runs["ahead"].staging,))) == [], "all are there"
    for name in networks:
        mine, theirs = found["alone"][name], found["ahead"][name]
        assert mine.history == theirs.history
        for key, weight in mine.weights.items():
            torch.testing.assert_close(theirs.weights[key], weight)
    seen = [step.arguments.get(TRAINED_ON) for name in networks for step in found["ahead"][name].history]
    assert seen == [None, None, None, None, None, WHOLE]
    once = alone("2", wanted["2"]._replace(whole=False), folders)
    assert any(not torch.equal(once.weights[key], weight) for key, weight in found["alone"]["2"].weights.items())


def test_a_network_and_its_copy_of_all_examples_are_trained_side_by_side_once(tmp_path: Path) -> None:
    data = load_data(CONFIG.data, limit=CONFIG.limit)
    supernet, run = Supernet.fresh(space_of(CONFIG, data), 0), Run(tmp_path)
    supernet.save(run.supernet_path)
    wanted = Wanted(supernet.space.smallest(), Who(None))
    folders, again = (run.judged, run.models), (run.staging, run.models)
    for folder in {*folders, *again}:
        folder.mkdir()

    def tuner(hands: Hands) -> Tuner:
        return Tuner(run, supernet, data, lambda _: Recipe(epochs=1, batch=16), CONFIG.seed, hands)

    told: list[tuple[int, int]] = []

    def count(epoch: int, epochs: int) -> None:
        told.append((epoch, epochs))

    tuner(Hands(CONFIG, tmp_path, 1, print)).twice("0", wanted, folders, again, count)
    assert not [*run.judged.iterdir(), *run.staging.iterdir()], "one process alone gains nothing"
    hands = Here(CONFIG, tmp_path, _Trainer(CONFIG, tmp_path))
    made = tuner(hands)
    made.twice("0", wanted, folders, again, count)
    assert hands.done == [run.judged, run.staging]
    made.twice("0", wanted, folders, again, count)
    (run.judged / "0.safetensors").unlink()
    made.twice("0", wanted, folders, again, count)
    assert len(hands.done) == 2, "of what is there nothing is trained again, and one alone is left to the caller"
    assert told[-1] == (1, 1)
    told.clear()
    judged, whole = made("0", wanted, folders, count), made("0", wanted._replace(whole=True), again)
    assert [one.history[-1].arguments.get(TRAINED_ON) for one in (judged, whole)] == [None, WHOLE]
    assert [*read_curves(run.curves_path)] == ["0"]
    assert told == [(1, 1)], "of the one that was not there"
