"""`wb fold`: what a network can take into its linear maps, one file per subject."""
