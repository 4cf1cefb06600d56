from __future__ import annotations

import time

import pytest

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task import task_log


def live(*chunks: bytes) -> list[str]:
    shown: list[str] = []
    lines = task_log.LiveLines(shown.append)
    for chunk in chunks:
        lines.feed(chunk)
    lines.finish()
    return shown


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\n\ntwo", ["one", "", "", "two"]),
        (b"windows\r\n\r\nlines\r\n", ["windows", "", "lines"]),
        (b"\r 10%\r 20%\r100%\n", ["100%"]),
        (b"\r 10%\r 20%\r100%", ["100%"]),
        (b"\r 50%\r     \r", [" 50%"]),
        (b"\xff\xfe \x00 \xf0\x9f\x98\x80 \xf0\x9f\n", ["\ufffd\ufffd \0 \U0001f600 \ufffd"]),
        (b"   \n", ["   "]),
        (b"", []),
    ],
)
def test_lines_are_shown_as_a_terminal_shows_them_however_they_arrive(data: bytes, lines: list[str]) -> None:
    assert live(data) == lines
    assert live(*(bytes([one]) for one in data)) == lines


@pytest.mark.parametrize("character", ["x", "é", "€", "\U0001f600"])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_a_long_line_is_shown_in_parts_that_split_no_character(character: str, shift: int) -> None:
    text = "x" * shift + character * 100_000
    parts = live(*_chunks(text.encode()), b"\nafter\n")
    assert "".join(parts[:-1]) == text
    assert parts[-1] == "after"
    assert max(len(part.encode()) for part in parts) <= task_log.MAX_LIVE_BYTES
    assert len(parts) > 2


def test_a_line_as_long_as_a_part_is_one_line() -> None:
    text = "x" * task_log.MAX_LIVE_BYTES
    assert live(text.encode() + b"\n\n") == [text, ""]
    assert live(text.encode() + b"y\n") == [text, "y"]


def test_a_progress_bar_is_shown_every_few_seconds_and_its_end_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown: list[str] = []
    lines = task_log.LiveLines(shown.append)
    for percent in range(101):
        lines.feed(b"\r%3d%%" % percent)
        lines.show_if_due()
        now[0] += 0.1
    assert 3 <= len(shown) <= 5
    assert shown[0] == "  0%"
    now[0] += 10
    lines.show_if_due()
    assert shown[-1] == "100%"
    lines.show_if_due()
    lines.feed(b"\ndone\n")
    lines.finish()
    assert shown[-2:] == ["100%", "done"]


def test_a_line_without_carriage_returns_is_shown_whole_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown: list[str] = []
    lines = task_log.LiveLines(shown.append)
    lines.feed(b"loading ")
    now[0] += 60
    lines.show_if_due()
    lines.feed(b"done\n")
    assert shown == ["loading done"]


def _chunks(data: bytes) -> list[bytes]:
    return [data[start : start + 65536] for start in range(0, len(data), 65536)]
