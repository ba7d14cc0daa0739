"""The choice of finalists: who is trained alone for how long, and what that tells; and the images that judge."""
