"""The ground everything stands on: architectures, readings, spaces, passes, errors. Imports no torch."""
