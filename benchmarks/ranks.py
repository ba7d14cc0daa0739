"""Several processes of one benchmark, which find each other as those that torchrun starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RANK = "--rank"  # a benchmark with this option is one of its own processes, and writes JSON to the file that it names


def processes(script: str, count: int, arguments: Sequence[str]) -> list[Any]:
    """Runs `python SCRIPT ARGUMENTS --rank FILE` in so many processes; what each has written to its file.

    Raises:
        subprocess.CalledProcessError: one failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(rank) for rank in range(count)]
        running = []
        for rank, file in enumerate(files):
            place = {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            command = [sys.executable, "-W", "ignore", script, *arguments, RANK, str(file)]
            running.append(subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **place}))
        for one in running:
            if one.wait():
                for other in running:
                    other.kill()
                raise subprocess.CalledProcessError(one.returncode, one.args)
        return [json.loads(file.read_text()) for file in files]
