"""Networks with early exits: their record, their module, their files."""
