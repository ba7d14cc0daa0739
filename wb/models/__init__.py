"""Networks: stems, blocks, operators, named axes, the model file, counting."""
