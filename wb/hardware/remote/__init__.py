"""Devices elsewhere: a runner that is sent to them, the channel to it, and their addresses."""
