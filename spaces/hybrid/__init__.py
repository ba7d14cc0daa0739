"""Space `hybrid`: stages of convolutions on maps and of mixers on tokens."""
