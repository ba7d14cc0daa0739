"""Fixtures that several folders use. One torch thread: two on a shared machine can be ten times slower."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import nn

from tests.haste import Attributes, changed, searching, timing, writing
from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.data import Dataset, Split
from wb.data.split import Images
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
gc.set_threshold(
    50_000, 20, 20
)  # a search for cycles goes through all modules and tests: often, it takes a tenth of the time


def pytest_collection_finish() -> None:
    """What was collected stays, and is not searched for cycles."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Latency tables of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def hasty() -> Iterator[Attributes]:
    """Latencies are read in a moment, files written at once. Gives what was before: tests of the timing itself put it back."""
    with changed({**timing(), **writing()}) as before:
        yield before


def digest(network: nn.Module, *more: object) -> str:
    """Of all weights of a network, and of what is told by its `repr`."""
    found = hashlib.sha256(repr(more).encode())
    for name, weight in network.state_dict().items():
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode() + weight.numpy().tobytes())
    return found.hexdigest()


@pytest.fixture(scope="session", autouse=True)
def traced() -> Iterator[Attributes]:
    """A network of ours is traced once in a session, and a graph compared once with it, for jobs often export the same again.

    Gives what does both: tests of exports put it back.
    """
    trace, compare = graph.export_module, graph.check_parity
    graphs, readings = dict[str, bytes](), dict[str, Reading]()

    def once(network: Network, feed: Mapping[str, torch.Tensor], path: Path, *how: object, **more: object) -> None:
        key = digest(network, how, more, [(name, x.shape) for name, x in feed.items()])
        if key not in graphs:
            trace(network, feed, path, *how, **more)  # type: ignore[arg-type]
            graphs[key] = path.read_bytes()
        path.write_bytes(graphs[key])

    def compared(network: Network, path: Path, feed: Mapping[str, torch.Tensor], *how: object) -> Reading:
        key = digest(network, how, hashlib.sha256(path.read_bytes()).digest())
        if key not in readings:
            readings[key] = compare(network, path, feed, *how)  # type: ignore[arg-type]
        return readings[key]

    with changed({(graph, "export_module"): once, (graph, "check_parity"): compared}) as before:
        yield before


@pytest.fixture(scope="session", autouse=True)
def alone() -> Iterator[Callable[..., dict[str, Any]]]:
    """Graphs of others are tried out in the process of the test, for a process of their own takes half a second to start.

    Gives what starts one: tests of that, and of damaged files and of what never ends, put it back.
    """
    from wb.export.foreign import trial

    before = trial._ask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "_ask", lambda order, *_: trial._answer(json.loads(order) | {"memory": None}))
        yield before


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
        return Images(images, labels.astype(np.int64))

    return Dataset("stripes", "stripes", split(192), split(60), split(60), ("a", "b", "c"), "0")


@pytest.fixture(scope="module")
def brief() -> Iterator[Attributes]:
    """Searches take a moment, for tests that do not ask how good that is which is found. Gives what there was before."""
    with changed(searching()) as before:
        yield before


@pytest.fixture
def unpaged() -> Iterator[None]:
    """Jobs leave empty pages: those take as long as all the rest, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.jobs.frame.job.write_page", lambda _, __, ___, path, **____: path.write_text("page"))
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
        patch.setattr("wb.export.timing.runs.measure_latency", latency)
        patch.setattr("wb.export.timing.table.measure_latency", latency)
        patch.setattr("wb.jobs.frame.begin.reference_pace", lambda *_: pace)
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
        patch.setattr("wb.export.timing.runs.measure_latency", latency)
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
