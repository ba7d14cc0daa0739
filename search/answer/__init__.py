"""The answer to requirements: which networks meet them, by how much others miss them, and what relaxation would help."""
