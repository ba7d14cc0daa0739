"""Squares that a picture of tokens is cut into, and distances within a picture: what attention within windows is made of."""

from __future__ import annotations

import torch
from torch import Tensor


def cut(x: Tensor, shape: tuple[int, ...], side: int) -> Tensor:
    """The tokens of every square by itself: (B, N, C) -> (B·squares, side², C), squares and their tokens row by row."""
    (_, columns), channels = shape, int(x.shape[2])
    # Rows of a square move as a whole, so that one transposition of four dimensions is enough.
    rows = x.reshape(-1, side, columns // side, side * channels).transpose(1, 2)
    return rows.reshape(-1, side * side, channels)


def uncut(x: Tensor, shape: tuple[int, ...], side: int) -> Tensor:
    """The inverse of `cut`: (B·squares, side², C) -> (B, N, C)."""
    (rows, columns), channels = shape, int(x.shape[2])
    squares = x.reshape(-1, columns // side, side, side * channels).transpose(1, 2)
    return squares.reshape(-1, rows * columns, channels)


def moved(shape: tuple[int, ...], side: int, by: int) -> Tensor:
    """The tokens in the order of `cut` once the picture is moved by so many rows and columns around its borders: (N), int64."""
    rows, columns = shape
    numbers = torch.arange(rows * columns).view(1, rows, columns).roll((-by, -by), dims=(1, 2))
    return cut(numbers.view(1, -1, 1), shape, side).flatten()


def apart(shape: tuple[int, ...], side: int, by: int) -> Tensor:
    """Where two tokens of a square are no neighbours, because the picture was moved: (squares, side², side²), true there."""
    rows, columns = (_strip(length, side, by) for length in shape)
    regions = cut((3 * rows[:, None] + columns[None, :]).view(1, -1, 1), shape, side)[..., 0]
    return regions[:, :, None] != regions[:, None, :]


def distances(rows: int, columns: int) -> Tensor:
    """Where the bias of two tokens stands in a table of 2 rows - 1 by 2 columns - 1 distances, its rows flattened.

    (N, N), int64; the distance is that of the row's token from the column's.
    """
    row, column = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)
    down, right = row[:, None] - row[None, :] + rows - 1, column[:, None] - column[None, :] + columns - 1
    return down * (2 * columns - 1) + right


def biases(table: Tensor, index: Tensor) -> Tensor:
    """The biases of all pairs of tokens: a table (distances, distances, H) and `distances` (N, N) -> (H, N, N)."""
    tokens, heads = int(index.shape[0]), int(table.shape[2])
    found = table.flatten(0, 1).index_select(0, index.flatten().to(table.device))
    return found.transpose(0, 1).reshape(heads, tokens, tokens)


def _strip(length: int, side: int, by: int) -> Tensor:
    """0 for the places that the move left among their neighbours, 1 and 2 for the last square's two parts."""
    place = torch.arange(length)
    return (place >= length - side).long() + (place >= length - by).long()
