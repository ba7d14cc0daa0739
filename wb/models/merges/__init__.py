"""One file a merge: from the tokens of one stage to the fewer of the next."""
