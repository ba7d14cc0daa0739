"""What the functions of `wb.api` take and return."""
