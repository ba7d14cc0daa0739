"""Texts as data: their readers, the vocabularies that they are written with, and a split of them."""
