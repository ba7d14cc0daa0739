"""Data sets: one door, `load(spec)`, gives train, validation and test; `wb.data.batches` turns them into tensors."""

from wb.data.dataset import Dataset as Dataset
from wb.data.dataset import Feed as Feed
from wb.data.dataset import Split as Split
from wb.data.load import load as load
