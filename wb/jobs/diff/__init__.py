"""What two models differ in: architecture, sizes, weights, outputs layer by layer, readings, lineage."""
