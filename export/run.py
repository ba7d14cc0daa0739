"""Running a graph on examples; every other module gets a graph's outputs from here.

All runs have the same batch size (the last is padded with copies of one example, whose outputs are dropped), because kernels
sum in another order at another batch size. So the same file and examples give exactly the same numbers. A graph that
quantizes activations dynamically uses one range for a whole batch, so that examples would change each other's outputs: it is
run example by example, as it is timed. Texts are run without the padding that none of a batch needs: it costs time, and would be
in such a range. Padding in front of a text is refused, but by graphs that continue texts, which count places without it, and by
those of others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from wb.core.errors import BadArtefact, BadData, BadOption, Unsupported
from wb.core.specs import IDS, IN_FRONT, MASK
from wb.data import Feed
from wb.export.pasts import empty_pasts
from wb.hardware.device import DTYPES, Device, example_inputs, session, usual_tokens
from wb.hardware.remote.session import Remote
from wb.hardware.runtimes.base import Loaded
from wb.hardware.runtimes.conversion import converted
from wb.hardware.runtimes.failures import said
from wb.hardware.runtimes.known import OURS, runtime
from wb.hardware.watch import RUN_S, TOGETHER, Watch

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort

BATCH = 64


class Runner:
    """A graph, loaded on the device that scores (`Device.scorer`).

    Raises:
        BadArtefact, Unsupported: as `wb.hardware.device.session`; also texts, where the runtime takes fixed shapes only.
        DeviceLost: the device is elsewhere, and does not answer any more; also when it is called.
    """

    def __init__(self, graph: onnx.ModelProto | Path, device: Device) -> None:
        self._graph = graph
        self.what = str(graph) if isinstance(graph, Path) else "the graph"
        self._loaded = opened(graph if isinstance(graph, Path) else graph.SerializeToString(), device.scorer)
        self._ours = device.scorer.runtime == OURS
        # Inputs whose second axis may have any size, which is that of tokens where there is a mask.
        self._stretching = {
            one.name for one in self._loaded.get_inputs() if len(one.shape) > 1 and not isinstance(one.shape[1], int)
        }
        names = [output.name for output in self._loaded.get_outputs()]
        self.output = "logits" if "logits" in names else names[0]

    def __call__(self, feed: Feed, batch: int | None = None) -> NDArray[np.float32]:
        """The output `logits`, or else the first output, for every example: (n, ...).

        A single array goes to a single input, whatever its name. The batch size is the graph's own if fixed; else `batch`;
        else 1 for a graph that quantizes activations dynamically, and 64 for any other.

        Raises:
            BadOption: `batch` is below 1.
            BadArtefact: the graph has other inputs, fails, or gives no numbers for every example.
            BadData: no examples, or of another shape, or texts with padding in front.
        """
        if batch is not None and batch < 1:
            raise BadOption(f"batch={batch}; give a positive number of examples per run")
        feed = self.fitted(feed)
        size = self.fixed or batch or (1 if self._dynamic else BATCH)
        count = len(next(iter(feed.values())))
        runs = (
            unpadded(
                {name: _filled(values[start : start + size], size) for name, values in feed.items()}, self._stretching
            )
            for start in range(0, count, size)
        )
        starts = range(0, count, size)
        parts = [
            self._checked(given, size)[: count - start]
            for start, given in zip(starts, self._given(runs, size), strict=True)
        ]
        if len({part.shape[1:] for part in parts}) > 1:
            raise BadArtefact(
                f"{self.what} gives other sizes of {self.output!r} for longer texts; give a graph with scores for each text, not "
                "for each token"
            )
        return np.concatenate(parts)

    @cached_property
    def fixed(self) -> int | None:
        """The graph's batch size, if that is fixed."""
        sizes = [spec.shape[0] for spec in self._loaded.get_inputs() if spec.shape]
        return next((size for size in reversed(sizes) if isinstance(size, int) and size > 0), None)

    def _given(self, runs: Iterator[dict[str, NDArray[Any]]], size: int) -> Iterator[Any]:
        """The output of each run of `size` examples."""
        if isinstance(self._loaded, Remote):
            yield from (given for (given,) in self._loaded.each([self.output], runs, max(1, BATCH // size)))
            return
        with ExitStack() as stack:
            run: Callable[[list[str], Feed], list[Any]] = self._loaded.run
            if self._ours:
                loaded = cast("ort.InferenceSession", self._loaded)
                run = stack.enter_context(Watch(loaded, self.what, RUN_S * max(1, size / TOGETHER))).run
            for part in runs:
                try:
                    (given,) = run([self.output], part)
                except BadArtefact:
                    raise
                except Exception as error:  # the runtime's exceptions have no common base class
                    shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in part.items())
                    raise BadArtefact(
                        f"{self.what} fails on its inputs {shapes}; export it again ({said(error)})"
                    ) from error
                yield given

    def fitted(self, feed: Feed) -> Feed:
        """The examples with the names and types of the graph's inputs. Raises `BadArtefact` and `BadData` as a call."""
        inputs = {spec.name: spec for spec in self._loaded.get_inputs()}
        if IDS in feed:  # a graph that continues texts begins them
            shapes = {name: spec.shape for name, spec in inputs.items()}
            past = empty_pasts(shapes, len(feed[IDS]))
            if not past and _in_front(feed) and usual_tokens(self._loaded) is not None:
                raise BadData(f"{self.what}: {IN_FRONT}")
            feed = {**feed, **past}
        if len(inputs) == len(feed) == 1:
            feed = dict(zip(inputs, feed.values(), strict=True))
        offered = ", ".join(f"{name} {values.dtype}{list(values.shape)}" for name, values in feed.items()) or "nothing"
        if inputs.keys() != feed.keys() or any(
            spec.type not in DTYPES or _numbers(DTYPES[spec.type]) != _numbers(feed[name].dtype)
            for name, spec in inputs.items()
        ):
            wanted = ", ".join(f"{name} {spec.type}{spec.shape}" for name, spec in inputs.items()) or "nothing"
            raise BadArtefact(f"{self.what} takes {wanted}, and is given {offered}; give a graph that takes just that")
        for name, spec in inputs.items():
            shape, given = spec.shape, feed[name].shape
            matches = len(shape) == len(given) and all(
                n == m for n, m in zip(shape[1:], given[1:], strict=True) if isinstance(n, int) and n >= 0
            )
            if not matches or not given[0]:
                raise BadData(
                    f"{feed[name].dtype}{list(given)} do not fit {self.what}, whose input {name!r} is {shape}; give at least one "
                    "example of that shape, images by --image-size"
                )
        return {name: values.astype(DTYPES[inputs[name].type], copy=False) for name, values in feed.items()}

    def _checked(self, given: object, size: int) -> NDArray[np.float32]:
        """The output of a run, checked to be numbers for each of `size` examples."""
        if not isinstance(given, np.ndarray) or given.dtype.kind not in "fiub":
            kind = f"{given.dtype} array" if isinstance(given, np.ndarray) else type(given).__name__
            raise BadArtefact(f"{self.what} gives {self.output!r}, a {kind}; numbers for each example were expected")
        if not given.ndim and size == 1:
            given = given[None]
        if not given.ndim or len(given) != size:
            raise BadArtefact(
                f"{self.what} gives {self.output!r} {list(given.shape)} for {size} examples; expected numbers for each of them"
            )
        return np.asarray(given, dtype=np.float32)

    @cached_property
    def _dynamic(self) -> bool:
        """Whether the graph quantizes activations dynamically: it finds their range in every run."""
        from wb.export.foreign.opening import open_graph  # imports onnx
        from wb.export.foreign.stored import scopes

        graph = open_graph(self._graph) if isinstance(self._graph, Path) else self._graph
        nodes = (node for scope in scopes(graph) for node in scope.nodes)
        return any(node.op_type.startswith("DynamicQuantize") for node in nodes)


def opened(graph: Path | bytes, device: Device) -> Loaded:
    """The graph on that device itself, by its own runtime; for examples of any number where the graph is, and its runtime can.

    Raises as `Runner`.
    """
    if device.runtime != OURS and runtime(device.runtime).slow is not None:  # its graphs have fixed shapes
        ours = session(graph, Device())
        if usual_tokens(ours) is not None:
            raise Unsupported(
                f"{device.name} runs graphs of fixed shapes, and a text has any number of tokens; leave --score-on out"
            )
        return converted(graph, device, ours, example_inputs(ours)).load()
    if device.address is not None:
        return Remote(graph, "the graph" if isinstance(graph, bytes) else str(graph), device)
    if device.runtime != OURS:
        return runtime(device.runtime).load(graph, device.name, device.threads)
    return cast(Loaded, session(graph, device))


def unpadded(part: Mapping[str, NDArray[Any]], stretching: Collection[str]) -> dict[str, NDArray[Any]]:
    """A batch of texts without the columns behind the last token that counts; one column stays. Others as they are.

    `stretching` are the inputs of a graph whose second axis may have any size.
    """
    if MASK not in part:
        return dict(part)
    mask = part[MASK]
    shared = {name for name in stretching & part.keys() if part[name].shape[:2] == mask.shape}
    if mask.ndim != 2 or MASK not in shared:
        return dict(part)
    used = np.flatnonzero(mask.any(axis=0))
    end = int(used[-1]) + 1 if len(used) else 1
    return {name: values[:, :end] if name in shared else values for name, values in part.items()}


def _filled(part: NDArray[Any], size: int) -> NDArray[Any]:
    """`part` (b, ...), padded to `size` examples with copies of the last."""
    return np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)]) if len(part) < size else part


def _in_front(feed: Feed) -> bool:
    """Whether a token that does not count stands before one that does."""
    mask = feed.get(MASK)
    return mask is not None and mask.ndim == 2 and bool((mask[:, 1:] > mask[:, :-1]).any())


def _numbers(dtype: Any) -> str:
    """The kind of numbers: "f" for floating point, "b" for booleans, "i" for integers."""
    kind = np.dtype(dtype).kind
    return "i" if kind == "u" else kind
