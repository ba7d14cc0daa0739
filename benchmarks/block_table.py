"""Sums of blocks against whole graphs, on every runtime: how far is the per-block table from what whole networks take?

Random networks of a preset are timed whole, in one interleaved run for each device; and each is predicted by the table of its
blocks, every distinct one of which is timed once on that device. In the median over the networks the prediction has to be
within 5 % of the whole graph, on every device. What a runtime fuses across the border of two blocks is not in the sum.

    python benchmarks/block_table.py [--device cpu,openvino] [--preset small]
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fusion_models import initial
from tables import Table, begin, parser_of, told

from wb.core.measures.readings import Reading
from wb.core.space import random_choices
from wb.core.specs import image_spec
from wb.export.devices.several import places
from wb.export.graph import export
from wb.export.timing.blocks import parts, time_parts
from wb.export.timing.measure import measure_latency
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.spaces.columnar.presets import vit_space

WITHIN = 0.05


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--device", default="cpu,openvino", help="devices, with commas between")
    parser.add_argument("--preset", default="tiny", help="of space vit")
    parser.add_argument("--pixels", type=int, default=8, help="a side of the images")
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing, for each network, at most")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    options, out = begin(arguments())
    shape = (1, options.pixels, options.pixels)
    images = SimpleNamespace(specs=lambda: (image_spec(*shape),), mean=(0.5,), std=(0.25,), classes=("a", "b"))
    space, rng = vit_space(images, options.preset), random.Random(options.seed)
    networks = [space.decode(random_choices(space, rng)) for _ in range(options.networks)]
    title = f"{len(networks)} random networks of {options.preset}, {options.pixels} pixels"
    table = Table(title, ("device", "blocks timed", "ms", "median error", "largest", "median, signed"))
    medians = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {str(n): Path(folder) / f"{n}.onnx" for n in range(len(networks))}
        for name, network in zip(paths, networks, strict=True):
            export(initial(network, seed=options.seed), paths[name])
        for place in places(options.device, 1):
            whole = timed(paths, place.device, options.seconds)
            known = LatencyTable(place.device, Path(folder) / "table")
            pieces = [list(parts(network)) for network in networks]
            distinct = {part.key: part for own in pieces for part in own}
            time_parts(
                [*distinct.values()], known, lambda done, of, name=place.name: told(f"{name}: {done} of {of} blocks")
            )
            sums = [known.estimate([part.key for part in own]).value for own in pieces]
            errors = np.array([found / whole[name].value - 1 for name, found in zip(paths, sums, strict=True)])
            medians[place.name] = float(np.median(np.abs(errors)))
            low, high = min(one.value for one in whole.values()), max(one.value for one in whole.values())
            cells = (f"{100 * medians[place.name]:.1f} %", f"{100 * np.abs(errors).max():.1f} %")
            table.row(
                place.name, str(len(distinct)), f"{low:.3g} to {high:.3g}", *cells, f"{100 * np.median(errors):+.1f} %"
            )
    out.table(table)
    met = all(error < WITHIN for error in medians.values())
    out.say(f"The median error is under {100 * WITHIN:g} % on every device: {'yes' if met else 'no'}.")
    if not met:
        raise SystemExit(3)


def timed(paths: dict[str, Path], device: Device, seconds: float) -> dict[str, Reading]:
    """The latencies of whole graphs, timed together."""
    found = measure_latency({**paths}, device, precision=0.03, cap_s=seconds * len(paths))
    return {name: one.reading for name, one in found.items()}


if __name__ == "__main__":
    main()
