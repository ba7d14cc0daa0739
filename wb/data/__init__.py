"""Data sets: `load(spec)` gives train, validation and test splits; `wb.data.batches` makes tensors of them."""

from wb.data.dataset import Dataset as Dataset
from wb.data.dataset import Feed as Feed
from wb.data.dataset import Split as Split
from wb.data.load import load as load
