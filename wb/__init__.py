"""`wb`: an architecture search and compression workbench for transformers."""

import os

__version__ = "0.1.0"

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would report its use; set before it is imported anywhere
