from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wb.core.errors import BadData, BadOption
from wb.data.formats import extensions
from wb.data.readers import pictures

RANDOM = np.random.default_rng(0)


def decode(paths: list[Path], folder: Path, **options: Any) -> np.ndarray:
    """The pixels alone."""
    return pictures.decode(paths, folder, **options).images


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(("extension", "options"), [("png", {}), ("bmp", {}), ("webp", {"lossless": True})])
def test_colour_images_are_read_as_they_were_written(
    tmp_path: Path, extension: str, options: dict[str, object]
) -> None:
    arrays = [picture(5, 7) for _ in range(3)]
    paths = [save(tmp_path / f"{i}.{extension}", array, **options) for i, array in enumerate(arrays)]
    assert np.array_equal(decode(paths, tmp_path), np.stack(arrays).transpose(0, 3, 1, 2))


def test_a_jpeg_is_read_nearly_as_it_was_written(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 160, 5, dtype=np.uint8), (32, 1))
    read = decode([save(tmp_path / "a.JPEG", ramp, quality=95)], tmp_path)
    assert read.shape == (1, 1, 32, 32)
    assert np.abs(read[0, 0].astype(int) - ramp).max() <= 4


def test_grey_stays_one_channel_only_if_all_are_grey(tmp_path: Path) -> None:
    grey, colour = picture(4, 4, 1), picture(4, 4)
    paths = [save(tmp_path / "grey.png", grey), save(tmp_path / "colour.png", colour)]
    assert np.array_equal(decode(paths[:1], tmp_path), grey[None, None])
    both = decode(paths, tmp_path)
    assert np.array_equal(both[0], np.broadcast_to(grey, (3, 4, 4)))
    assert np.array_equal(both[1], colour.transpose(2, 0, 1))


def test_sixteen_bits_of_grey_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    levels = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    read = decode([save(tmp_path / "deep.png", levels)], tmp_path)
    assert np.array_equal(read.ravel(), np.arange(256))


def test_bilevel_grey_with_alpha_palette_and_cmyk_are_read(tmp_path: Path) -> None:
    board = (np.indices((6, 6)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).convert("1").save(tmp_path / "bilevel.png")
    Image.fromarray(board).convert("LA").save(tmp_path / "alpha.png")
    assert np.array_equal(decode([tmp_path / "bilevel.png", tmp_path / "alpha.png"], tmp_path)[:, 0], [board, board])
    colour = np.where(board[..., None] > 0, np.array([200, 30, 90], np.uint8), np.uint8(0))
    palette = Image.fromarray(colour).quantize(4)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    read = decode([tmp_path / "palette.png", tmp_path / "print.jpg"], tmp_path)
    assert np.array_equal(read[0], colour.transpose(2, 0, 1))
    assert read.shape == (2, 3, 6, 6)


def _ink(path: Path, mode: str) -> Path:
    """A square of ink, half of it transparent ground whose colours are those of the ink: the picture is in its alpha."""
    alpha = np.zeros((4, 4), np.uint8)
    alpha[:, 2:] = 255
    ink = Image.merge("RGBA", [*(Image.new("L", (4, 4), level) for level in (0, 0, 0)), Image.fromarray(alpha)])
    match mode:
        case "RGBA" | "LA":
            ink.convert(mode).save(path)
        case "P":  # a palette with one transparent entry
            indexed = Image.fromarray((alpha // 255).astype(np.uint8), "L").convert("P")
            indexed.putpalette([0, 0, 0] * 256)
            indexed.save(path, transparency=0)
        case "RGB" | "L" | "I;16":  # one colour that counts as transparent
            levels = np.where(alpha, 0, 200).astype(np.uint16 if mode == "I;16" else np.uint8)
            grey = Image.fromarray(levels)
            grey.convert(mode).save(path, transparency=(200, 200, 200) if mode == "RGB" else 200)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "I;16"])
@pytest.mark.parametrize(("background", "ground"), [("white", (255,) * 3), ("#0a141e", (10, 20, 30))])
def test_what_is_transparent_is_laid_on_the_background(
    tmp_path: Path, mode: str, background: str, ground: tuple[int, int, int]
) -> None:
    path = _ink(tmp_path / "ink.png", mode)
    images, notes = pictures.decode([path], tmp_path, background=background)
    expected = np.zeros((4, 4, 3), np.uint8)
    expected[:, :2] = ground
    assert np.array_equal(images[0], np.broadcast_to(expected.transpose(2, 0, 1)[: images.shape[1]], images[0].shape))
    assert images.shape[1] == (1 if background == "white" and mode in ("LA", "L", "I;16") else 3)
    assert notes == (
        f"1 of 1 images of {tmp_path} are transparent in parts: they are laid on {background} (--background)",
    )


def test_half_transparent_is_half_background_and_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    half = Image.new("RGBA", (3, 3), (100, 0, 0, 128))
    half.save(tmp_path / "half.png")
    assert decode([tmp_path / "half.png"], tmp_path)[0, :, 0, 0].tolist() == pytest.approx([177, 127, 127], abs=1)
    solid = picture(5, 7, 4)
    solid[..., 3] = 255
    images, notes = pictures.decode([save(tmp_path / "solid.png", solid)], tmp_path)
    assert np.array_equal(images[0], solid[..., :3].transpose(2, 0, 1))
    assert notes == ()


@pytest.mark.parametrize("background", ["", "whitish", "#12345", "#11223344", "rgb(1,2,3)", "#ffffff:x"])
def test_a_background_that_is_no_colour(tmp_path: Path, background: str) -> None:
    with pytest.raises(BadOption, match="is no colour; give white, black, or one like #c0ffee"):
        decode([_ink(tmp_path / "ink.png", "LA")], tmp_path, background=background)


@pytest.mark.parametrize("extension", ["tif", "gif", "ppm", "tga", "webp", "jp2", "qoi", "pcx"])
def test_other_formats_of_pillow_are_read(tmp_path: Path, extension: str) -> None:
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    options: dict[str, object] = {"lossless": True} if extension == "webp" else {}
    colour = board[..., None].repeat(3, axis=2)
    read = decode([save(tmp_path / f"a.{extension}", colour, **options)], tmp_path)
    assert np.array_equal(read[0], np.broadcast_to(board, (read.shape[1], 8, 8)))
    assert f".{extension}" in extensions()


def test_formats_that_other_programs_decode_are_not_among_them() -> None:
    assert not {".eps", ".ps", ".wmf", ".mpg", ".h5"} & set(extensions())


def test_pixels_of_unknown_range_are_refused_and_not_guessed(tmp_path: Path) -> None:
    save(tmp_path / "float.tif", np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4))
    save(tmp_path / "deep.tif", np.full((4, 4), 1 << 20, np.int32))
    with pytest.raises(
        BadData, match=r"deep.tif \(pixels beyond 16 bits.*float.tif \(floating-point pixels, whose range"
    ):
        decode(sorted(tmp_path.iterdir()), tmp_path)


def test_pipes_sockets_and_links_to_nowhere_are_no_pictures(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(4, 4))
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("c.png")
    (tmp_path / "d.png").symlink_to("nowhere.png")
    link = r"c.png \(a symbolic link that leads back to itself\)"
    text = rf"3 of 4 images in .* b.png \(a named pipe\), {link}, d.png \(leads to nothing"
    with pytest.raises(BadData, match=text):
        decode(sorted(tmp_path.glob("*.png")), tmp_path)


def test_mixed_sizes_say_what_they_become(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", picture(*shape)) for i, shape in enumerate([(9, 5), (9, 5), (30, 70)])]
    _, (note,) = pictures.decode(paths, tmp_path)
    assert "have 2 sizes, 5x9 to 70x30 pixels: all are brought to 64x64" in note
    assert "--image-size" in note
    assert pictures.decode(paths[:2], tmp_path).notes == ()
    assert pictures.decode(paths, tmp_path, image_size=16).notes == ()  # as was asked for


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_the_orientation_that_a_camera_noted_is_applied(tmp_path: Path, orientation: int, extension: str) -> None:
    upright = np.repeat(np.repeat(np.array([[0, 100], [150, 200], [250, 60]], np.uint8), 16, axis=0), 16, axis=1)
    # How the sensor saw it: the inverse of what a viewer has to do, after the EXIF standard.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{extension}", np.ascontiguousarray(stored), exif=exif.tobytes())
    read = decode([path], tmp_path)
    assert read.shape == (1, 1, 48, 32)
    assert np.abs(read[0, 0].astype(int) - upright).max() < 10


def test_without_a_size_mixed_images_become_64_and_equal_ones_keep_theirs(tmp_path: Path) -> None:
    paths = [
        save(tmp_path / f"{i}.png", np.full(shape, 90, np.uint8)) for i, shape in enumerate([(9, 5), (9, 5), (100, 70)])
    ]
    assert decode(paths[:2], tmp_path).shape == (2, 1, 9, 5)
    assert decode(paths, tmp_path).shape == (3, 1, 64, 64)
    sized = decode(paths, tmp_path, image_size=10)
    assert sized.shape == (3, 1, 10, 10)
    assert (sized == 90).all()


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", picture(3, 3)) for i in range(3)]
    calls: list[tuple[int, int]] = []
    decode(paths, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def _bomb(path: Path, side: int) -> Path:
    """A PNG of few bytes whose header promises side x side pixels."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(99))),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.mark.parametrize("side", [10_000, 30_000])  # Pillow warns of the first and refuses the second
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    with pytest.raises(BadData, match=r"1 of 1 images in .* cannot be read: bomb.png \(more than 89,478,485 pixels\)"):
        decode([_bomb(tmp_path / "bomb.png", side)], tmp_path)


def test_all_broken_files_are_counted_in_one_error_and_the_first_named(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", picture(40, 40))
    content = good.read_bytes()
    broken = {
        "a.png": b"",
        "b.jpg": b"this is text",
        "c.png": content[: len(content) // 2],
        "d.png": content[:2000] + bytes(100) + content[2100:],
        "e.png": content[:20],
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "f.png").symlink_to(tmp_path / "nowhere.png")
    text = (
        r"6 of 7 images in .* cannot be read: "
        r"a.png \(an empty file\), b.jpg \(not an image\), c.png \([^)]*truncated[^)]*\) and 3 more; remove or replace"
    )
    with pytest.raises(BadData, match=text):
        decode(sorted(tmp_path.glob("*.*")), tmp_path)


@pytest.mark.parametrize("names", [["d.png"], ["e.png"], ["f.png"]])
def test_each_of_these_is_broken_on_its_own(tmp_path: Path, names: list[str]) -> None:
    good = save(tmp_path / "good.png", picture(40, 40))
    content = good.read_bytes()
    (tmp_path / "d.png").write_bytes(content[:2000] + bytes(100) + content[2100:])
    (tmp_path / "e.png").write_bytes(content[:20])
    (tmp_path / "f.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(BadData, match=rf"1 of 2 images in .* cannot be read: {names[0]} \([^)]+\); remove"):
        decode([good, tmp_path / names[0]], tmp_path)


def test_a_format_that_needs_another_program_is_not_started(tmp_path: Path) -> None:
    path = tmp_path / "drawing.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(BadData, match=r"drawing.png \(not an image\)"):
        decode([path], tmp_path)


def test_images_that_would_not_fit_into_memory_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture(2, 2))
    with pytest.raises(BadData, match=r"100 images of 4096x4096 pixels in 3 channels would take 4\.7 GB"):
        decode([path] * 100, tmp_path, image_size=4096)
