"""The end of a search: finalists, known networks beside them, and the front."""
