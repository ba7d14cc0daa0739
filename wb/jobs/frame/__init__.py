"""The frame of a job: its folder, lock, record and page, and how it resumes."""
