"""Binary and ternary weights, hash attention, and the job of `wb binarize`."""
