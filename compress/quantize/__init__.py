"""The quantization job of `wb quantize`: source, policy under a budget, verdict, record, report."""
