"""NViT: saliency, cost and selection of units, and the pass that removes them in rounds."""
