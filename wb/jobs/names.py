"""Names of configuration fields on the command line, if they differ from the field's own name."""

from __future__ import annotations

SAMPLES = "--samples"  # the number of images; where images can be chosen, `--calibration` chooses them
FIELDS = {"calib": SAMPLES, "changes": "--set", "seeds": "--seed-architecture"}


def option_of(field: str) -> str:
    """The command line option of a configuration field."""
    return FIELDS.get(field, "--" + field.replace("_", "-"))
