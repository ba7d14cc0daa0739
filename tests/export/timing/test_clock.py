"""How noisy the clock is: the record, and the verdict on made-up samples."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from wb.core.errors import BadOption
from wb.export.timing.clock import SAMPLE_S, Probe, Sample, describe, noise, quiet
from wb.export.timing.reference import overhead_graph, transformer_graph
from wb.hardware.device import parse_device
from wb.hardware.remote import runner


def samples(clean: int, disturbed: int, spread: float = 0.01) -> list[Sample]:
    rng = np.random.default_rng(0)
    quiet_ = [Sample(wall, wall, True) for wall in 1e-3 * (1 + spread * rng.standard_normal(clean))]
    return quiet_ + [Sample(5e-3, 1e-3, False)] * disturbed


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (samples(100, 5), "quiet"),
        (samples(100, 50), "noisy"),
        (samples(100, 0, spread=0.2), "noisy"),
        (samples(10, 90), "busy"),
        (samples(0, 20), "busy"),
    ],
)
def test_verdict(given: list[Sample], word: str) -> None:
    assert describe(given, parse_device()).verdict.startswith(word)


def test_figures_are_those_of_the_samples() -> None:
    found = describe(samples(100, 25), parse_device())
    assert found.samples == 125
    assert found.disturbed == pytest.approx(0.2)
    assert found.reference_ms == pytest.approx(1, rel=0.01)
    assert found.cv_clean == pytest.approx(0.01, rel=0.2)
    assert found.cv_raw > 0.5


def test_a_clock_that_tells_nothing_is_told() -> None:
    assert "cannot be told apart" in describe(samples(10, 0), parse_device(), judged=False).verdict


def test_noise_samples_the_machine() -> None:
    found = noise(0.05)
    assert found.samples >= 10
    assert found.reference_ms > 0
    assert 0 <= found.disturbed <= 1
    assert found.cores >= 1
    assert noise(0.01).model_dump().keys() == found.model_dump().keys()


def test_noise_needs_time() -> None:
    with pytest.raises(BadOption, match="seconds=0"):
        noise(0)


def test_tiny_graphs_run_many_times_per_sample() -> None:
    """Runs are chosen so that a sample lasts long against the clock's own cost; a hundred-fold graph needs fewer."""
    tiny, large = (Probe(graph, parse_device()) for graph in (overhead_graph(), transformer_graph(64, 64, 4)))
    assert tiny.runs > 5 * large.runs
    assert large.cost_s > SAMPLE_S
    walls = [np.median([probe.sample().wall for _ in range(7)]) for probe in (tiny, large)]
    assert 0 < walls[0] < walls[1]


class Turns:
    """A session and the clocks: each run takes 2 s of wall time and `busy` of them on the processor."""

    def __init__(self, busy: float) -> None:
        self.busy, self.runs = busy, 0

    def run(self, outputs: list[str], inputs: object) -> None:
        self.runs += 1

    def perf_counter(self) -> float:
        return 2.0 * self.runs

    def thread_time(self) -> float:
        return 2.0 * self.runs * self.busy


@pytest.mark.parametrize(("busy", "clean"), [(1.0, True), (0.98, True), (0.96, False)])
def test_a_sample_is_seconds_per_run_and_judged_by_cpu_time(
    monkeypatch: pytest.MonkeyPatch, busy: float, clean: bool
) -> None:
    probe = Probe(transformer_graph(4, 8, 1), parse_device())
    turns = Turns(busy)
    probe.runs, probe._session = 20, turns
    monkeypatch.setattr(runner, "time", turns)
    found = probe.sample()
    assert (found.wall, found.clean) == (2.0, clean)
    assert found.cpu == pytest.approx(2 * busy)
    assert turns.runs == 21
    probe.judged = False
    assert probe.sample().clean


def test_renewing_makes_a_new_session_with_equal_inputs() -> None:
    probe = Probe(transformer_graph(4, 8, 1), parse_device())
    session, inputs = probe._session, probe._inputs
    probe.renew()
    assert probe._session is not session
    np.testing.assert_array_equal(probe._inputs["x"], inputs["x"])


def test_sessions_that_cost_more_than_their_runs_are_kept() -> None:
    probe = Probe(transformer_graph(4, 8, 1), parse_device())
    session = probe._session
    probe.last_renewal_s, probe.sampling_s = 10.0, 1.0
    probe.renew_if_cheap()
    assert probe._session is session
    probe.sampling_s = 1000.0
    probe.renew_if_cheap()
    assert probe._session is not session


def test_quiet_restores_the_garbage_collector() -> None:
    assert gc.isenabled()
    with quiet(parse_device()):
        assert not gc.isenabled()
    assert gc.isenabled()


def fail_inside() -> None:
    with quiet(parse_device()):
        raise KeyError


def test_quiet_restores_the_garbage_collector_after_an_error() -> None:
    with pytest.raises(KeyError):
        fail_inside()
    assert gc.isenabled()
