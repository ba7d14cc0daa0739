"""Families of networks that take texts, one file each, and what their configurations share."""
