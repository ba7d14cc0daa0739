"""One file a head: from the tokens behind the last block to the answer; each is named by the `module` of its record."""
