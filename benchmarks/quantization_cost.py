"""The suite `cost` of `benchmarks/quantization.py`: seconds of a search for a quantized candidate."""

from __future__ import annotations

import argparse
import random
import time
from statistics import fmean, median, stdev

from fusion_models import Cache, Key
from quantization_speed import code
from tables import Output, Table, told

from wb.core.architecture import Architecture
from wb.core.space import random_choices
from wb.data import Dataset, load
from wb.export.timing.measure import reference_pace
from wb.hardware.device import Device
from wb.search.evaluate import Evaluator
from wb.search.supernet import Supernet
from wb.spaces.columnar.precision import is_precision
from wb.spaces.columnar.presets import vit_space

FLOAT = "fp32"
SPACES = {"int8, fp32": "int8,fp32", "int8, fp32, int4": "int8,fp32,int4", "int8 throughout": "int8"}
PHASES = ("extract", "export", "time", "score")
TARGET = 2.0
Seconds = dict[str, float]


def cost_rows(options: argparse.Namespace, out: Output) -> None:
    """Evaluates every architecture in all ways and prints the table."""
    data = load("digits")
    evaluator = Evaluator(Supernet.fresh(vit_space(data), seed=0), data, Device(), reference_pace(Device()))
    cache, found = Cache(options.cache), {name: [] for name in (FLOAT, *SPACES)}
    for architecture in variants(data, 0).values():
        evaluator(architecture)  # imports
    for number in range(options.architectures):
        ways = list(variants(data, number).items())
        random.Random(number).shuffle(ways)
        for name, architecture in ways:
            key: Key = {"cost": architecture.key, "number": number, "way": name, "code": code()}
            found[name].append(cache.numbers(key, lambda a=architecture: seconds(evaluator, a)))
        told(f"{number}: " + ", ".join(f"{n} {times[-1]['all']:.2f} s" for n, times in found.items()))
    show(out, found)


def variants(data: Dataset, number: int) -> dict[str, Architecture]:
    """A random architecture in fp32 and in random precisions of each kind."""
    space, rng = vit_space(data), random.Random(number)
    structure = random_choices(space, rng)
    found = {FLOAT: space.decode(structure)}
    for name, options in SPACES.items():
        mixed = vit_space(data, changes={"precision": options})
        kept = {gene: rng.choice(values) for gene, values in mixed.genes.items() if is_precision(gene)}
        found[name] = mixed.decode({**structure, **kept})
    return found


def seconds(evaluator: Evaluator, architecture: Architecture) -> Seconds:
    """Wall seconds by phase and of the whole."""
    start = time.perf_counter()
    phases = evaluator(architecture).seconds
    return {**phases, "all": time.perf_counter() - start}


def show(out: Output, found: dict[str, list[Seconds]]) -> None:
    """Medians by phase; the ratio to the same architecture in fp32, also of all but the timing."""
    count = len(found[FLOAT])
    title = f"one evaluation on digits, {count} random architectures of preset tiny: median wall seconds"
    columns = ("precisions", *PHASES, "all", "/ fp32: median", "mean ± sd", "largest", "without timing")
    table = Table(title, columns)
    for name, times in found.items():
        cells = [f"{median(one.get(phase, 0.0) for one in times):.3f}" for phase in (*PHASES, "all")]
        pairs = list(zip(times, found[FLOAT], strict=True))
        ratios = [one["all"] / whole["all"] for one, whole in pairs]
        untimed = [(one["all"] - one["time"]) / (whole["all"] - whole["time"]) for one, whole in pairs]
        spread = f"{fmean(ratios):.2f} ± {stdev(ratios) if count > 1 else 0.0:.2f}"
        table.row(name, *cells, f"{median(ratios):.2f}", spread, f"{max(ratios):.2f}", f"{median(untimed):.2f}")
    out.table(table)
    for name in SPACES:
        whole = sum(one["all"] for one in found[name]) / sum(one["all"] for one in found[FLOAT])
        out.say(f"{name}: {whole:.2f}x in all; {'meets' if whole <= TARGET else 'misses'} the target of {TARGET:g}x")
