"""The figures of PROTOCOL.md §8 are those of the code: what happens at a limit is
tested with the code's own figure, whichever it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tailrace import chat, chunks, frames, quotas, records, session, slices

PROTOCOL = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()
SECTION = PROTOCOL.partition("## 8. Limits")[2].partition("\n## ")[0]
STATED = dict(re.findall(r"^\| (.+?) \| (.+) \|$", SECTION, re.MULTILINE)[1:])
QUOTAS = quotas.Quotas()
OURS = {
    "frame, each way": (slices.MAX_FRAME_BYTES,),
    "chunks of one record, `append`": (chunks.MAX_CHUNKS_BYTES,),
    "`meta`; `message`": (chunks.MAX_META_BYTES, records.MAX_MESSAGE_CHARS),
    "how deep a chunk, `meta`, what a `send` carries may nest": (chunks.MAX_DEPTH,),
    "subscriptions of a connection, streams of a `sync`; requests of a connection": (
        frames.MAX_STREAMS,
        chat.MAX_REQUESTS,
    ),
    "bad frames of a connection": (session.MAX_BAD_FRAMES,),
    "frames of a connection": (QUOTAS.frames, QUOTAS.frames_a_second),
    "connections of one `sub`": (QUOTAS.connections,),
    "one answer to `subscribe` or `sync`": (
        quotas.ANSWER_BYTES // 1000,
        quotas.ANSWER_MS // 1000,
    ),
    "replays for one `sub`, over all its connections": (
        QUOTAS.replay_bytes // 1_000_000,
    ),
}
# Patterns with tests of their own, what AWS has, and a parameter of the template.
ELSEWHERE = {
    "stream name; writer; `key`; `sub`",
    "appends to one stream",
    "retention",
}


@pytest.mark.parametrize("what", OURS)
def test_a_limit_is_what_the_protocol_says(what: str) -> None:
    figures = re.findall(r"\d[\d,]*", STATED[what])
    assert tuple(int(one.replace(",", "")) for one in figures) == OURS[what]


def test_no_limit_is_left_out() -> None:
    assert set(STATED) == {*OURS, *ELSEWHERE}


def test_a_job_has_as_long_to_begin_as_the_protocol_says() -> None:
    assert f"with a lease of {chat.START_SECONDS} s for the job to begin" in PROTOCOL
