"""One file a stem: from the input to tokens; each is named by the `module` of its record."""
