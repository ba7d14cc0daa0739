"""What the server of processes has loaded before it forks one: all that commands load, with tests' haste."""

from __future__ import annotations

import alembic.command  # noqa: F401
import onnxruntime.quantization  # noqa: F401
import optuna.storages._rdb.models  # noqa: F401
import plotly.graph_objs
import plotly.subplots  # noqa: F401
import scipy.signal  # noqa: F401
import torch._dynamo
import torch.onnx  # noqa: F401

import wb.cli.main
import wb.compress.binarize.begin
import wb.compress.prune.begin
import wb.compress.quantize.begin
import wb.fusion.job.begin
import wb.search.pipeline  # noqa: F401
from tests.haste import searching, timing, writing

for (owner, name), value in {**timing(), **searching(), **writing()}.items():
    setattr(owner, name, value)
