"""`wb convert` and `wb fold`: other parts in a trained network, and parts that its linear maps take over."""
