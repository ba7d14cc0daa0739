"""The pruning job, of `wb prune nvit` and `wb prune depth`: stages, landings on the measured budget, record, report."""
