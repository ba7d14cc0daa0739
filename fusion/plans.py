"""Alignment plans for the record and the page: small matrices, and small pictures embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from wb.fusion.align.solvers import Matrix, shown
from wb.fusion.job.record import Plan

DIGITS = 3
POSITIVE, NEGATIVE = (59, 130, 246), (247, 103, 7)  # BLUE and FRONT of wb.page.look


def thinned(plans: Mapping[str, Matrix]) -> tuple[Plan, ...]:
    """Plans (source, reference) by axis for the record, reduced to at most 64 entries on a side by means over neighbours.

    In a coupling each column is scaled to sum to one: it says what an entry of the reference is made of. Rotations stay.
    """
    return tuple(_thinned(axis, plan) for axis, plan in plans.items())


def picture(plan: Plan) -> str:
    """The plan as a PNG in a data URL: one pixel per entry, blue for positive and orange for negative entries.

    Small entries are transparent, so that the picture can be read on white and on black.
    """
    values = np.array(plan.values)
    strength = np.abs(values) / (np.abs(values).max() or 1.0)
    pixels = np.where(values[..., None] < 0, NEGATIVE, POSITIVE)
    opacity = np.round(255 * strength)[..., None]
    file = io.BytesIO()
    Image.fromarray(np.concatenate([pixels, opacity], axis=2).astype(np.uint8), "RGBA").save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _thinned(axis: str, plan: Matrix) -> Plan:
    signed = bool((plan < 0).any())
    plan = shown(plan)
    if not signed:
        total = plan.sum(axis=0)
        plan = plan / np.where(total > 0, total, 1.0)
    return Plan(axis=axis, signed=signed, values=tuple(tuple(row) for row in plan.round(DIGITS).tolist()))
