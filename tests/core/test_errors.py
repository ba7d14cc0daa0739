from __future__ import annotations

from wb.core.errors import out_of_memory, printable, reason


def test_what_comes_from_a_file_is_shown_without_its_tricks() -> None:
    assert printable("a\x1b[31mb\x1b[0m") == "ab"
    assert printable("a\x07\n\ud800\u202eb") == r"a\x07\n\ud800\u202eb"
    assert printable("x" * 500) == "x" * 200 + "…"


def test_a_reason_is_one_line_without_terminal_codes() -> None:
    assert reason(ValueError("\x1b[1mfirst\x1b[0m\nsecond")) == "first"
    assert reason(ValueError("\x1b[1m")) == "ValueError"


def test_memory_that_ran_out_is_told_from_mistakes() -> None:
    texts = (
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
        "libx.so: failed to map segment",
        "std::bad_alloc",
    )
    assert out_of_memory(MemoryError())
    assert all(out_of_memory(RuntimeError(text)) for text in texts)
    assert not out_of_memory(RuntimeError("shapes do not fit"))
