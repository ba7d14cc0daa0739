"""What fields of configurations are called on the command line, where that is not their own name."""

from __future__ import annotations

SAMPLES = "--samples"  # how many images; `--calibration` says which, where they can be chosen
FIELDS = {"calib": SAMPLES, "changes": "--set", "seeds": "--seed-architecture"}


def option_of(field: str) -> str:
    """What a field of a command's configuration is called on the command line."""
    return FIELDS.get(field, "--" + field.replace("_", "-"))
