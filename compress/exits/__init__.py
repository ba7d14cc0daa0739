"""`wb exits`: early exits for a trained network, gates that choose among them, and what that saves."""
