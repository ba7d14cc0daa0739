"""The processes that work on a run together: on this machine, on others, on a cluster of Ray."""
