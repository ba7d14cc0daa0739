"""`wb`: an architecture search and compression workbench for transformers."""

__version__ = "0.1.0"
