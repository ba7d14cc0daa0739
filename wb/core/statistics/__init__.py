"""Intervals, paired comparisons and verdicts on measured numbers."""
