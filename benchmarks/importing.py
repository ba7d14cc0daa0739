"""What `wb import` takes for a ViT-Base as transformers saves it: seconds, and memory beside the size of the checkpoint.

    python benchmarks/importing.py [--markdown]

The checkpoint is made here, of random numbers, in the layout of transformers, so that it needs no library. Import is run in a
process of its own. Its memory is the most that it held, less what it held when its libraries were loaded. CPU seconds are what
it takes on a machine that is otherwise idle. Targets: 5 s and 1.5 times the size of the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tables import Table, begin, parser_of

from wb.core.records import ImageInput
from wb.foreign.exporting import export_checkpoint
from wb.foreign.families.vitlike import Plain, plain
from wb.models.model import from_network
from wb.models.network import build

SECONDS, TIMES = 5.0, 1.5
IMPORT = """
import json, sys, time
from pathlib import Path
from wb.foreign.given import Given
from wb.jobs.verbs.importing import import_file
def held():  # the most so far; of this program alone, unlike getrusage's
    lines = Path('/proc/self/status').read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))
before, wall, cpu = held(), time.perf_counter(), time.process_time()
import_file(Path(sys.argv[1]), Path(sys.argv[2]), Given(), compare=False, force=True)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu, held() - before]))
"""


def arguments() -> argparse.ArgumentParser:
    return parser_of(__doc__)


def main() -> None:
    _, out = begin(arguments())
    with TemporaryDirectory() as name:
        folder = Path(name)
        made(folder / "base")
        size = (folder / "base/model.safetensors").stat().st_size
        command = [sys.executable, "-c", IMPORT, str(folder / "base"), str(folder / "base.safetensors")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, cpu, held = json.loads(done.stdout)
    table = Table("A ViT-Base, 86.6 M parameters", ("what", "found", "target", ""), left=("target", ""))
    table.row("CPU seconds", f"{cpu:.1f} s", f"under {SECONDS:g} s", "met" if cpu < SECONDS else "missed")
    table.row("seconds, on a machine in use", f"{wall:.1f} s", "", "")
    met = "met" if held <= TIMES * size else "missed"
    table.row("memory, in sizes of the checkpoint", f"{held / size:.2f}", f"at most {TIMES:g}", met)
    out.table(table)
    if cpu >= SECONDS or held > TIMES * size:
        sys.exit(3)


def made(folder: Path) -> None:
    """Writes the checkpoint."""
    image = ImageInput(channels=3, height=224, width=224, mean=(0.5,) * 3, std=(0.5,) * 3)
    base = Plain(image, patch=16, embed=768, depth=12, heads=12, channels=64, mlp=3072, classes=1000, eps=1e-12)
    architecture = plain(base)
    torch.manual_seed(0)
    network = build(architecture)
    network.reset()
    export_checkpoint(from_network(architecture, network), "hf", folder)


if __name__ == "__main__":
    main()
