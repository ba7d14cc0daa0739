"""One file per operator; each is named by the `module` of its record in `wb.core.records`."""
