"""What options are called that mean the same in several commands, where that is not the name of their field."""

from __future__ import annotations

SAMPLES = "--samples"  # how many images; `--calibration` says which, where they can be chosen
