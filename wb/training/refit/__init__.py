"""Linear maps found anew in closed form, from what parents make of images without labels."""
