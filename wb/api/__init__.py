"""What the commands do, for notebooks and scripts: `from wb import api; model = api.load("a.pt"); api.prune(model)`.

Every function does what the command of its name does, with the same configuration, job, record, files and errors: see
`wb COMMAND --help`. Options that are not named here are the fields of the job's configuration
(`wb.compress.prune.config.PruneConfig` and its `settings`, and so on), called so or as the command calls them (`calibration`,
`samples`). Their values may be text, as on the command line: `snapshots="0.75x,0.5x"`. A model is given as a path or as what
another function returned; without one it is the stock model. Data are given by name or as `data` returned them; data that
are not named are those the model was trained with. Without `out`, files go to a new folder in `runs/`, whose name the result
shows. On a terminal and in a notebook, a bar on stderr shows what is being done, unless `quiet`.
"""

from __future__ import annotations

from wb.api._compressing import binarize, convert, prune, quantize
from wb.api._exits import exits
from wb.api._files import bundle, data, export, load
from wb.api._foreign import export_to, import_checkpoint
from wb.api._fusing import fuse
from wb.api._looking import diff, generate, measure, predict, run
from wb.api._resizing import fold_norms, grow
from wb.api._searching import search, search_from
from wb.api._training import sweep_aspect, train
from wb.jobs.calls.results import Data, Model, Result
from wb.search.shown import Front

__all__ = [
    "Data",
    "Front",
    "Model",
    "Result",
    "binarize",
    "bundle",
    "convert",
    "data",
    "diff",
    "exits",
    "export",
    "export_to",
    "fold_norms",
    "fuse",
    "generate",
    "grow",
    "import_checkpoint",
    "load",
    "measure",
    "predict",
    "prune",
    "quantize",
    "run",
    "search",
    "search_from",
    "sweep_aspect",
    "train",
]
