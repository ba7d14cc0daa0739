"""What was understood of a data set: as tables, as a page, and as a picture of samples."""
