"""The estimator on made-up samples with known truth; the protocol on tiny graphs, without a word on absolute time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.readings import Reading
from wb.export.timing.clock import Probe, Sample
from wb.export.timing.measure import (
    BATCHES,
    Centre,
    Pair,
    centre,
    measure_latency,
    product,
    reference_pace,
    relate,
)
from wb.export.timing.reference import overhead_graph, reference_graph, transformer_graph
from wb.hardware.device import Device, parse_device

TRUTH = 0.4


class Machine:
    """Samples of a machine whose speed drifts, with noise, outliers and disturbances; seconds are multiples of 1."""

    def __init__(self, seed: int, drift: float = 0.1, luck: float = 0.01, disturbed: float = 0.1) -> None:
        self.rng = np.random.default_rng(seed)
        self.drift, self.luck, self.disturbed = drift, luck, disturbed
        self.state = 0.0

    def sample(self, cost: float) -> Sample:
        busy = cost * math.exp(self.drift * self.state) * (1 + 0.03 * abs(self.rng.standard_normal()))
        if self.rng.random() < 0.02:
            busy *= 1.3
        if self.rng.random() < self.disturbed:
            return Sample(busy * self.rng.uniform(1.1, 4), busy, False)
        return Sample(busy, busy, True)

    def batches(self, count: int, cost: float = TRUTH, rounds: int = 9) -> Iterator[list[Pair]]:
        for _ in range(count):
            session = 1 + self.luck * self.rng.standard_normal()
            batch = []
            for _ in range(rounds):
                self.state = 0.9 * self.state + 0.44 * self.rng.standard_normal()
                batch.append(Pair(self.sample(cost * session), self.sample(1), self.sample(1)))
            yield batch


def test_the_estimate_recovers_the_truth_and_its_interval_covers_it() -> None:
    found = [relate(list(Machine(seed).batches(12))) for seed in range(200)]
    assert all(note is None for _, note in found)
    assert np.median([value.value for value, _ in found]) == pytest.approx(TRUTH, rel=0.005)
    covered = np.mean([value.low <= TRUTH <= value.high for value, _ in found])
    assert 0.90 <= covered <= 0.995
    assert np.mean([value.width() for value, _ in found]) < 0.04


def test_drift_cancels_where_milliseconds_alone_would_be_lost() -> None:
    pairs = [list(Machine(seed, drift=0.3).batches(12)) for seed in range(30)]
    ratios = [relate(batches)[0].value for batches in pairs]
    naive = [np.median([pair.sample.wall for batch in batches for pair in batch]) for batches in pairs]
    assert np.std(ratios) / np.mean(ratios) < 0.01 < 0.04 < np.std(naive) / np.mean(naive)


def test_neighbours_that_correlate_make_the_interval_wider() -> None:
    rng = np.random.default_rng(0)
    walk = 1 + 0.01 * np.cumsum(rng.standard_normal(30))
    shuffled = rng.permutation(walk)
    assert centre(walk.tolist()).value == pytest.approx(centre(shuffled.tolist()).value)
    assert centre(walk.tolist()).width() > 1.5 * centre(shuffled.tolist()).width()


def test_centre_is_the_exact_signed_rank_interval() -> None:
    """Eight values: P(W <= 3) = 5 / 256 < 0.025 < P(W <= 4), so the fourth smallest pairwise mean is the limit."""
    values = [1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0]  # neighbours anti-correlate: no stretch
    means = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    assert centre(values) == Centre(float(np.median(means)), means[3], means[-4])


def test_too_few_values_have_no_interval() -> None:
    assert centre([1.0] * 5) == Centre(1.0, -math.inf, math.inf)
    assert centre([1.0] * 6) == Centre(1.0, 1.0, 1.0)


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=20), st.floats(0.01, 100))
def test_centre_scales_with_its_unit(values: list[float], factor: float) -> None:
    scaled = centre([value * factor for value in values])
    assert scaled == pytest.approx(tuple(x * factor for x in centre(values)), rel=1e-6, abs=1e-9 * factor)
    assert scaled.low <= scaled.value <= scaled.high


def test_two_bad_batches_of_twelve_do_not_move_the_estimate() -> None:
    batches = list(Machine(1).batches(12))
    bad = [[Pair(Sample(9 * p.sample.wall, p.sample.cpu, True), p.before, p.after) for p in b] for b in batches[:2]]
    assert relate([*bad, *batches[2:]])[0].value == pytest.approx(relate(batches)[0].value, rel=0.02)


def test_disturbed_samples_are_left_out() -> None:
    clean, slow = Sample(1.0, 1.0, True), Sample(5.0, 1.0, False)
    assert Pair(clean, clean, slow).ratio() == 1
    assert Pair(clean, Sample(2.0, 2.0, True), Sample(4.0, 4.0, True)).ratio() == pytest.approx(1 / 3)
    assert Pair(slow, clean, clean).ratio() is None
    assert Pair(clean, slow, slow).ratio() is None


def test_without_undisturbed_samples_cpu_time_stands_in_and_is_told() -> None:
    batches = list(Machine(2, disturbed=1.0).batches(12))
    found, note = relate(batches)
    assert found.value == pytest.approx(TRUTH, rel=0.02)
    assert note is not None
    assert "CPU time of all samples" in note
    wall, wall_note = relate(batches, single=False)
    naive = [2 * pair.sample.wall / (pair.before.wall + pair.after.wall) for batch in batches for pair in batch]
    assert wall.value == pytest.approx(np.median(naive), rel=0.2)
    assert wall_note is not None
    assert "wall time of all samples" in wall_note


@pytest.mark.parametrize(("disturbed", "enough"), [(0.5, True), (0.75, False)])
def test_a_few_undisturbed_samples_are_not_enough(disturbed: float, enough: bool) -> None:
    """At three quarters, one pair in nine is clean: what happens to be clean then says little."""
    note = relate(list(Machine(3, disturbed=disturbed).batches(20)))[1]
    assert (note is None) is enough


def test_relative_errors_add_in_quadrature() -> None:
    found = product(Centre(2, 1.94, 2.06), Centre(10, 9.6, 10.4))
    assert found == pytest.approx((20, 19, 21))


# ------------------------------------------------------------------------------------------------ the protocol itself


def file(folder: Path, layers: int) -> Path:
    path = folder / f"{layers}.onnx"
    path.write_bytes(transformer_graph(9, 16, layers))
    return path


def test_a_longer_graph_costs_more_in_proportion(tmp_path: Path) -> None:
    """Twelve layers against four: far outside the noise of any machine, even a busy one."""
    lines: list[str] = []
    found = measure_latency(
        {"long": file(tmp_path, 12), "short": file(tmp_path, 4).read_bytes()},
        parse_device(),
        precision=0.2,
        cap_s=3,
        progress=lines.append,
    )
    assert list(found) == ["long", "short"]
    assert 2 < found["long"].ratio.value / found["short"].ratio.value < 4
    assert not found["long"].reading.overlaps(found["short"].reading)
    assert lines[-1].startswith("batch ")
    for latency in found.values():
        assert (latency.reading.unit, latency.ratio.unit) == ("ms", "x")
        assert latency.reading.how == latency.ratio.how == "measured"
        assert latency.reading.device == parse_device().text
        assert latency.reading.interval is not None
        assert latency.reading.interval[0] <= latency.reading.value <= latency.reading.interval[1]
        assert latency.clean + latency.rejected >= 6
        assert latency.cpu_time_ms > 0
    paces = [latency.reading.value / latency.ratio.value for latency in found.values()]
    assert paces[0] == pytest.approx(paces[1]), "all graphs of one call share the reference's milliseconds"


def test_a_graph_that_comes_twice_is_the_same(tmp_path: Path) -> None:
    path = file(tmp_path, 4)
    found = measure_latency({"a": path, "b": path}, parse_device(), precision=0.1, cap_s=3)
    assert found["a"].ratio.value == pytest.approx(found["b"].ratio.value, rel=0.2)


def test_a_cap_that_is_spent_is_told(tmp_path: Path) -> None:
    found = measure_latency({"a": file(tmp_path, 2)}, parse_device(), precision=1e-9, cap_s=0.01)["a"]
    assert found.reading.note is not None
    assert "% wide, not under 1e-07 %: time ran out" in found.reading.note


def test_narrow_intervals_end_the_measurement_without_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every sample is exact stops after the fewest batches."""
    monkeypatch.setattr(Probe, "take", lambda probe: (float(probe.shape[0]), float(probe.shape[0])))
    lines: list[str] = []
    found = measure_latency({"a": file(tmp_path, 1)}, parse_device(), batch=3, cap_s=60, progress=lines.append)["a"]
    assert len(lines) == BATCHES
    assert found.ratio.value == 3
    assert found.ratio.interval == (3.0, 3.0)
    assert found.reading.value == 3000
    assert found.reading.note == "of one run, which takes 3 along its input's first axis"  # nothing of an interval


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="cannot time 0 graphs"):
        measure_latency({}, parse_device())
    with pytest.raises(BadOption, match=r"precision=0\.0"):
        measure_latency({"a": file(tmp_path, 1)}, parse_device(), precision=0.0)


def test_a_graph_that_fails_when_it_runs_is_named(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [7])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [7])
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x], [y], [shape])
    path = tmp_path / "fails.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadArtefact, match=r"fails\.onnx loads but fails on inputs \{'x': \(1, 3\)\}"):
        measure_latency({"a": path}, parse_device())


def test_a_fixed_pace_makes_milliseconds_a_multiple_of_the_ratio() -> None:
    pace = Reading(value=2.5, unit="ms", how="measured", interval=(1.0, 9.0))
    timed = measure_latency({"a": overhead_graph()}, Device(), cap_s=0.5, pace=pace)["a"]
    assert timed.reading.value == pytest.approx(2.5 * timed.ratio.value)
    assert timed.reading.interval is not None
    assert timed.ratio.interval is not None
    assert timed.reading.interval == pytest.approx(tuple(2.5 * end for end in timed.ratio.interval))


def test_the_reference_is_once_itself() -> None:
    pace = reference_pace(Device(), cap_s=1.0)
    assert (pace.unit, pace.how) == ("ms", "measured")
    timed = measure_latency({"a": reference_graph()}, Device(), cap_s=1.0, pace=pace)["a"]
    assert timed.ratio.value == pytest.approx(1.0, abs=0.1)


def test_a_run_of_several_examples_says_so() -> None:
    graph = transformer_graph(4, 8, 1)
    one, four = (measure_latency({"a": graph}, parse_device(), batch=n, cap_s=0.01)["a"] for n in (1, 4))
    for reading in (four.reading, four.ratio):
        assert "of one run, which takes 4 along its input's first axis" in str(reading.note)
    assert "of one run" not in str(one.reading.note)


def test_a_graph_may_have_any_name() -> None:
    """The last stage of a pruning has none."""
    graphs: dict[str, Path | bytes] = {"": overhead_graph(), "dense": transformer_graph(4, 8, 1)}
    found = measure_latency(graphs, parse_device(), cap_s=0.1)
    assert found.keys() == graphs.keys()
    assert found[""].ratio.value < found["dense"].ratio.value
