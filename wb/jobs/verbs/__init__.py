"""The work of the verbs that are no subject of their own: train, measure, predict, import, export."""
