"""`wb`: an architecture search and compression workbench for transformers."""

import os

__version__ = "0.1.0"

# onnxruntime reports its use unless it is told not to before it is imported, wherever that is.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
