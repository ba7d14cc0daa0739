"""Readings of graphs as files: size, modelled energy, accuracy, and latencies timed together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.readings import Reading
from wb.data import Split
from wb.export.counting.count import model_energy
from wb.export.foreign.opening import file_size
from wb.export.score import accuracy, examined
from wb.export.timing.measure import Latency, measure_latency
from wb.hardware.device import Device

FINAL_S = 8.0  # of timing for each graph


@dataclass(frozen=True)
class Reader:
    """Reads ONNX files on `device`; `seed` decides the order in which they are timed."""

    device: Device
    seed: int = 0

    def __call__(
        self, path: Path, architecture: Architecture | None, splits: Mapping[str, Split]
    ) -> dict[str, Reading]:
        """Size, the modelled energy of `architecture`, and for every named split an accuracy under that name.

        Raises:
            BadArtefact, BadData: as `wb.export.score.accuracy`.
        """
        found = {"size": file_size(path)}
        if architecture is not None:
            found["energy"] = model_energy(architecture)
        for name, split in splits.items():
            found[name] = accuracy(path, split.pixels(), split.labels, self.device)
        return found

    def doubted(self, path: Path, split: Split) -> tuple[Reading, str | None]:
        """The accuracy on `split`, and what is to be said where it is near chance. Raises as the reader itself does."""
        return examined(path, split.pixels(), split.labels, self.device)

    def timed(self, paths: Mapping[str, Path], *, cap_s: float = FINAL_S) -> dict[str, Latency]:
        """Latencies of all graphs, timed together, each for up to `cap_s` seconds."""
        return measure_latency(dict(paths), self.device, cap_s=cap_s * len(paths), seed=self.seed)
