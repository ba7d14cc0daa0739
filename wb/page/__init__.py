"""Pages that open anywhere: the look of figures and reports, and the frame that every report fills."""
