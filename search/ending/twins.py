"""The twins of finalists: the same weights as another graph, which looks at mirror images too, computes in 8 bits, or both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from wb import __version__
from wb.compress.ptq.calibration import Inputs, of_images
from wb.compress.ptq.convolutions import slow_in_8_bits, without
from wb.compress.ptq.subject import Choice, Subject, of_model
from wb.compress.quantize.source import Source
from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.core.precision import precisions
from wb.data import Dataset
from wb.export.graph import ExportDiffers
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.model import Model, Step
from wb.models.passes.base import apply
from wb.models.passes.mirror import Mirror

FEWEST_DIGITS = 3  # of the numbers of finalists, so that the twins of network 37 are networks 1037, 2037 and 3037
MIRRORED, LOW = 1, 2  # their first digit: one of these, or the sum
CALIBRATION = 128  # images that ranges are found on
TIMED_S = 0.5  # seconds of timing, at most, for each graph that decides what stays in floating point
GAIN = (
    0.1  # by which a graph in 8 bits has to be faster than that in floating point, to be worth its place in the timing
)


class Made(NamedTuple):
    """A finalist or its twin: the finalist's number, what it is, its graph at `path`, and the architecture of that.

    A graph in 8 bits has ranges that no model says, so that `model` is then the network in floating point that it was made from.
    """

    number: int
    model: Model
    path: Path
    architecture: Architecture
    mirrored: bool = False
    low: bool = False


def ids(numbers: Collection[int], most: int, first: int = MIRRORED) -> dict[int, int]:
    """The twin's id for each number: the digit `first` in front, and zeros between that make it larger than any up to `most`."""
    digits = max([FEWEST_DIGITS, *(len(str(number)) for number in (*numbers, most))])
    return {number: first * 10**digits + number for number in numbers}


def mirroring(
    made: Mapping[int, Made], flipped: Collection[int], most: int, write: Callable[[Model, Path], None]
) -> Iterator[tuple[int, Made]]:
    """The twins of those that are `flipped`, as they were trained on mirror images, with their ids; `write` writes graphs.

    No twin has the number of a candidate, of which `most` is the last. A network that sees both anyway has none.
    """
    seen = [n for n in made if n in flipped and not made[n].model.architecture.image.mirrored]
    for number, twin in ids(seen, most).items():
        model = apply(Mirror(), made[number].model)
        path = made[number].path.with_name(f"{twin}.onnx")
        write(model, path)
        yield twin, Made(number, model, path, model.architecture, mirrored=True)


def lowering(
    made: Mapping[int, Made],
    most: int,
    data: Dataset,
    device: Device,
    seed: int,
    *,
    anyway: bool = False,
    alone: Callable[[], AbstractContextManager[None]],
    say: Callable[[str], None],
) -> Iterator[tuple[int, Made]]:
    """The twins in 8 bits of those with stages of convolutions, with their ids; graphs are written.

    Of a finalist and its mirroring twin, what stays in floating point is measured once. Networks that the runtime's quantizer
    refuses have none, nor have those that are measured not to be faster, unless they are wanted `anyway`, as their files are
    smaller. The lock `alone` is held during timing, and `say` hears of refusals.

    Raises:
        DeviceLost: a device elsewhere does not answer any more.

    Source: `wb quantize --policy int8` (`wb.compress.ptq.convolutions`).
    """
    slow: dict[int, tuple[str, ...] | None] = {}
    for one in [*made.values()]:
        if not one.architecture.has_maps or slow.get(one.number, ()) is None:
            continue
        twin = ids([one.number], most, LOW + MIRRORED * one.mirrored)[one.number]
        path = one.path.with_name(f"{twin}.onnx")
        try:
            subject = of_model(one.model)
            inputs = of_images(subject.graph, data.train, CALIBRATION, seed)
            if one.number not in slow:
                with alone():
                    slow[one.number] = slow_in_8_bits(subject, inputs, device, cap_s=TIMED_S)
            low = _written(subject, inputs, slow[one.number] or (), seed, path)
        except (ExportDiffers, Unsupported) as error:  # whatever else there is, is no fault of the network
            say(f"finalist {one.number} has no twin in 8 bits: {error}")
            slow[one.number] = None
            continue
        with alone():
            faster = anyway or one.mirrored or _is_faster(path, one.path, device)
        if faster:
            yield twin, Made(one.number, one.model, path, low, one.mirrored, low=True)
        else:
            slow[one.number] = None
            path.unlink()


def remade(one: Made, model: Model, data: Dataset, seed: int, write: Callable[[Model, Path], None]) -> Made:
    """The finalist or its twin with the weights of `model`, which has the finalist's architecture; its graph is written anew.

    In 8 bits are the same groups as before.

    Raises:
        ExportDiffers, Unsupported: as what wrote the graph before.
    """
    model = apply(Mirror(), model) if one.mirrored else model
    if not one.low:
        write(model, one.path)
        return one._replace(model=model)
    subject, kept = of_model(model), precisions(one.architecture)
    inputs = of_images(subject.graph, data.train, CALIBRATION, seed)
    floating = [group for group in subject.groups if kept[group] != "int8"]
    low = _written(subject, inputs, floating, seed, one.path)
    return one._replace(model=model, architecture=low)


def _written(subject: Subject, inputs: Inputs, slow: Collection[str], seed: int, path: Path) -> Architecture:
    """Writes the graph in 8 bits, but for the groups that are `slow` so; gives the architecture with these precisions."""
    static = without(subject, inputs, (), slow)
    step = _step(static.groups, len(subject.groups), seed)
    source = Source(subject, None, None, inputs, frozenset())
    choice: Choice = dict.fromkeys(static.groups, "int8")
    source.write_graph(static.graph, choice, step, path)
    return source.quantized(choice, step).architecture


def _is_faster(low: Path, given: Path, device: Device) -> bool:
    found = measure_latency({"low": low, "float": given}, device, cap_s=4 * TIMED_S)
    return found["low"].ratio.value < (1 - GAIN) * found["float"].ratio.value


def _step(groups: Collection[str], every: int, seed: int) -> Step:
    """The step of the history that `wb quantize` adds."""
    counts = {"fp32": every - len(groups), "int8": len(groups)}
    arguments = {"policy": "int8", "activations": "static", "groups": counts, "calibration": {"n": CALIBRATION}}
    return Step.model_validate({"name": "quantize", "arguments": arguments, "seed": seed, "version": __version__})
