"""Processes that stand in a line and hand batches on, and neighbours that add up what each has computed of them."""
