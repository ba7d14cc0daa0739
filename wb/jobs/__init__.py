"""The frame of a job: its folder, lock and record, and how it resumes."""
