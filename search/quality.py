"""How well the predictors do on what the study has evaluated, beside a predictor that sees the MACs only."""

from __future__ import annotations
