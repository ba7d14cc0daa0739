"""The frame of a job: its folder, lock, record and resuming."""
