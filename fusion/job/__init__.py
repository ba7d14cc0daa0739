"""The fusion job of `wb fuse`: preview, fine-tuning, readings, record, report."""
