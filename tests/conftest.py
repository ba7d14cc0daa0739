"""Fixtures that several folders use. One torch thread: two on a shared machine can be ten times slower."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.data import Dataset, Split
from wb.export import graph
from wb.models.counting import count_macs
from wb.models.model import Model
from wb.models.network import Network
from wb.training.fit import Recipe
from wb.training.train import train

if TYPE_CHECKING:
    from wb.compress.quantize.record import Quantization

pytest.register_assert_rewrite("tests.jobs.suite")
settings.register_profile("quick", deadline=None, max_examples=40)  # a deadline fails where the machine is busy
settings.load_profile("quick")
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Latency tables of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def hasty() -> Iterator[Mapping[str, object]]:
    """Latencies are read in the fewest batches, however wide their intervals are, for no test asks how long something takes.

    Gives what was there before: tests of the timing itself put it back.
    """
    from wb.export.timing import measure

    def wide(timing: measure._Timing, _: float) -> list[str]:
        return [name for name in timing.probes if len(timing.pairs.get(name, ())) < measure.FEWEST]

    before = {"BATCH_S": measure.BATCH_S, "_Timing.wide": measure._Timing.wide}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "BATCH_S", 0.001)  # one round
        patch.setattr(measure._Timing, "wide", wide)
        yield before


@pytest.fixture(scope="session", autouse=True)
def traced() -> Iterator[Callable[..., None]]:
    """A network of ours is traced once in a session; what else there is to an export (lowering, comparing with torch) is done.

    Gives what traces: tests of exports put it back.
    """
    trace, graphs = graph.export_module, dict[str, bytes]()

    def once(network: Network, feed: Mapping[str, torch.Tensor], path: Path, *how: object, **more: object) -> None:
        digest = hashlib.sha256(repr([how, more, [(name, x.shape) for name, x in feed.items()]]).encode())
        for name, weight in network.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode() + weight.numpy().tobytes())
        if (key := digest.hexdigest()) not in graphs:
            trace(network, feed, path, *how, **more)  # type: ignore[arg-type]
            graphs[key] = path.read_bytes()
        path.write_bytes(graphs[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "export_module", once)
        yield trace


@pytest.fixture(scope="session")
def image() -> ImageInput:
    """The shape of the digits, with a normalisation that matters."""
    return ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with published outputs and real data; tests that need it are skipped where it is not given."""
    folder = os.environ.get("WB_REFERENCE")
    if not folder:
        pytest.skip("WB_REFERENCE names no folder with reference outputs")
    return Path(folder)


@pytest.fixture(scope="session")
def stripes() -> Dataset:
    """Three classes of texture that a tiny network learns in seconds: horizontal stripes, vertical stripes, none."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        labels = rng.integers(3, size=n)
        images = rng.random((n, 1, 8, 8), dtype=np.float32) * 0.3
        for i, label in enumerate(labels):
            if label < 2:
                images[i, 0].swapaxes(0, label)[::2] += 0.6
        return Split(images, labels.astype(np.int64))

    return Dataset("stripes", "stripes", split(192), split(60), split(60), ("a", "b", "c"), "0")


@pytest.fixture
def unpaged() -> Iterator[None]:
    """Jobs leave empty pages: those take as long as all the rest, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.jobs.job.write_page", lambda _, __, ___, path, **____: path.write_text("page"))
        yield


@pytest.fixture
def untimed() -> Iterator[None]:
    """Pruning and binarizing without a clock: a graph's latency is 10 µs and 1 ns for each multiply-accumulate."""
    from wb.export.counting.graph import count_graph
    from wb.export.timing.measure import Latency

    def counted(file: Path) -> float:
        found = count_graph(file).readings.get("macs")
        architecture = None if found else graph.read_architecture(file)
        return found.value if found else 0.0 if architecture is None else count_macs(architecture).value

    def latency(graphs: Mapping[str, Path | bytes], *_: object, **__: object) -> dict[str, Latency]:
        def read(file: Path | bytes) -> Latency:
            macs = 0.0 if isinstance(file, bytes) else counted(file)
            ms = 0.01 + 1e-6 * macs
            reading = Reading(value=ms, unit="ms", how="measured", interval=(0.99 * ms, 1.01 * ms))
            return Latency(reading, reading.model_copy(update={"unit": "x"}), 1, 0, ms)

        return {name: read(file) for name, file in graphs.items()}

    pace = Reading(value=1.0, unit="ms", how="measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.export.assess.measure_latency", latency)
        patch.setattr("wb.export.timing.table.measure_latency", latency)
        patch.setattr("wb.jobs.begin.reference_pace", lambda *_: pace)
        yield


@pytest.fixture
def by_size() -> Iterator[None]:
    """Quantization without a clock: a graph's latency is 1 µs for each kilobyte of its file."""
    from wb.export.timing.measure import Latency

    def latency(graphs: Mapping[str, Path | bytes], *_: object, **__: object) -> dict[str, Latency]:
        def read(file: Path | bytes) -> Latency:
            ms = 1e-6 * (len(file) if isinstance(file, bytes) else file.stat().st_size)
            reading = Reading(value=ms, unit="ms", how="measured", interval=(0.99 * ms, 1.01 * ms))
            return Latency(reading, reading.model_copy(update={"unit": "x"}), 1, 0, ms)

        return {name: read(file) for name, file in graphs.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.export.assess.measure_latency", latency)
        patch.setattr("wb.compress.ptq.sensitivity.measure_latency", latency)
        yield


@pytest.fixture(scope="session")
def striped(image: ImageInput, stripes: Dataset) -> Model:
    """A model of two blocks that knows the stripes."""
    block = Block(mixer=Softmax(heads=2, qk=8, v=8), ffn=Mlp(mlp=32))
    stage = Stage(embed=16, blocks=(block, block))
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), classes=3, labels=("a", "b", "c"))
    return train(a, stripes, Recipe(epochs=6, learning_rate=1e-2))


@pytest.fixture(scope="session")
def record_of() -> Callable[..., Quantization]:
    """Makes finished records."""
    return _record_of


def _record_of(times: tuple[float, float, float], size: float = 30, acc: float = 0.9, **config: object) -> Quantization:
    """One that took `times` (ratio, and its interval) as long as float, whose file has 100 B and which is right in 90 %."""

    def readings(size: float, ms: float, acc: float) -> dict[str, Reading]:
        return {
            "acc": Reading(value=acc, unit="fraction", how="measured", interval=(acc - 0.2, acc + 0.1), n=1000),
            "size": Reading(value=size, unit="B", how="counted"),
            "latency": Reading(value=ms, unit="ms", how="measured", interval=(0.5 * ms, 1.5 * ms)),
        }

    from wb.compress.quantize.config import QuantizeConfig
    from wb.compress.quantize.record import Group, OutputError, Quantization

    error = OutputError(divergence=0.1, kind="KL divergence", sqnr=20, agreement=0.5, n=3, on="random inputs")
    middle, low, high = times
    return Quantization(
        created="2026-11-25T00:00:00+00:00",
        version="0",
        config=QuantizeConfig.model_validate(config),
        source="m",
        model_key="0",
        data=None,
        calibration=None,
        machine={},
        versions={},
        first=readings(100, 2, 0.9),
        groups=(Group(name="head", precision="int8", weights=3),),
        floating=readings(100, 2, 0.9),
        quantized=readings(size, 2 * middle, acc),
        ratio=Reading(value=middle, unit="x", how="measured", interval=(low, high)),
        error=error,
        graph="q.onnx",
    )
