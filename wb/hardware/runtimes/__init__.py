"""Runtimes: what loads a graph on this machine and runs it, each a plug-in behind one interface (`base.py`)."""
