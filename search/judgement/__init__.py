"""The judgement by requirements: which networks meet them, by how much others do not, and what relaxation would help."""
