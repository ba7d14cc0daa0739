"""The pruning job of `wb prune nvit` and `wb prune depth`: stages, landing on the measured budget, record, report."""
