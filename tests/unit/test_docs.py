"""What the documents say of the Python package is so: every snippet runs, against a
stack in memory, and the API reference is that of the code."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import types
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tailrace
from tailrace import Producer, aisdk, consume, new_run
from tailrace.cli import failures
from tailrace.producer import aio, sync
from tests.support.local_server import RING, LocalServer

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/producer.md",
    "docs/consumer.md",
    "docs/ai-sdk.md",
    "layers/tailrace/README.md",
)
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def snippets() -> list[Any]:
    found = []
    for name in PAGES:
        for number, match in enumerate(SNIPPET.finditer((ROOT / name).read_text()), 1):
            found.append(pytest.param(match[1], id=f"{name} {number}"))
    return found


ANSWER = [
    {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}],
    }
    for text, reason in (("It ", None), ("rains.", "stop"))
]


class Weather:
    """A model of Anthropic's: asks for the weather in two cities, then says what its
    tools said."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, history: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        self.asked += 1
        assert self.asked < 5, "the model is never told what its tools said"
        if history[-1]["role"] == "user" and len(history) > 1:
            uses, results = history[-2]["content"], history[-1]["content"]
            ids = [one["tool_use_id"] for one in results]
            assert ids == [one["id"] for one in uses]
            said = ", ".join(one["content"] for one in results)
            yield from self._block(0, {"type": "text", "text": said}, None)
            yield from self._end("end_turn")
            return
        for at, city in enumerate(("Kiel", "Bonn")):
            use = {"type": "tool_use", "id": city, "name": "weather", "input": {}}
            yield from self._block(at, use, json.dumps({"city": city}))
        yield from self._end("tool_use")

    def _block(
        self, at: int, block: dict[str, Any], input: str | None
    ) -> Iterator[dict[str, Any]]:
        yield {"type": "content_block_start", "index": at, "content_block": block}
        if input is not None:
            delta = {"type": "input_json_delta", "partial_json": input}
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}

    def _end(self, reason: str) -> Iterator[dict[str, Any]]:
        yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {}}
        yield {"type": "message_stop"}


class Invoke:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def invoke(self, **call: Any) -> None:
        self.calls.append(call)


async def async_llm() -> AsyncIterator[str]:
    for token in "abc":
        yield token


async def run_snippet(code: str, names: dict[str, Any]) -> None:
    compiled = compile(code, "snippet", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = types.FunctionType(compiled, names)()
    if inspect.isawaitable(running):
        await running


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalServer]:
    async with LocalServer().listening() as server:
        for shell in (sync, aio):
            monkeypatch.setattr(
                shell, "find_transport", lambda *_, **__: server.publish
            )
        monkeypatch.setenv("TAILRACE_KEY_RING", json.dumps(RING))
        yield server


def chunks(server: LocalServer, stream: str) -> list[Any]:
    read = server.publish.ask({"operation": "read", "stream": stream})
    return [
        chunk for text in read["slices"] for chunk in json.loads(text).get("chunks", [])
    ]


@pytest.mark.parametrize("code", snippets())
async def test_a_snippet_runs(server: LocalServer, code: str) -> None:
    if "consume(" in code:
        with Producer("chat:42") as stream:
            stream.write("watched")
    shown: list[Any] = []
    names: dict[str, Any] = {
        "llm": ["a", "b", "c"],
        "async_llm": async_llm(),
        "pages": ["1", "2"],
        "run": new_run(),
        "url": server.url,
        "token": server.token(),
        "fetch_token": server.token,
        "kept": None,
        "client": SimpleNamespace(
            responses=SimpleNamespace(create=lambda **_: iter(ANSWER))
        ),
        "MODEL": "m",
        "upstream": iter(ANSWER),
        "ask": Weather(),
        "history": [{"role": "user", "content": "Will it rain in Kiel and in Bonn?"}],
        "run_tool": lambda name, input: f"{name} {input['city']}: rain",
        "load": lambda stream: [],
        "checked": lambda messages: messages,
        "show": shown.append,
        "print": lambda *values, **_: shown.append(values),
    }
    with Producer("chat:ai", on_active="supersede") as stream:
        await run_snippet(code, {**names, "stream": stream})
    assert shown or "consume(" not in code


def of_the_ai_sdk(word: str) -> str:
    text = (ROOT / "docs/ai-sdk.md").read_text()
    (code,) = [match[1] for match in SNIPPET.finditer(text) if word in match[1]]
    return code


def texts(server: LocalServer, stream: str) -> str:
    written = chunks(server, stream)
    assert written[0]["type"] == "start"
    assert written[-1]["type"] == "finish"
    return "".join(one["delta"] for one in written if one["type"] == "text-delta")


async def test_the_job_of_the_ai_sdk_writes_a_message(server: LocalServer) -> None:
    client = SimpleNamespace(responses=SimpleNamespace(create=lambda **_: iter(ANSWER)))
    names: dict[str, Any] = {"client": client, "MODEL": "m"}
    await run_snippet(of_the_ai_sdk("def answer("), names)
    names["answer"]("1", new_run(), [])
    assert texts(server, "chat:1") == "It rains."
    names |= {"load": lambda stream: [], "checked": lambda messages: messages}
    await run_snippet(of_the_ai_sdk("@job"), names)
    opened = server.log.open("chat:2", "send.1")
    event = {"stream": "chat:2", "run": opened.run, "seq": opened.next, "sub": "u"}
    names["handler"]({"tailrace": 1, **event, "untrusted": {"messages": []}}, None)
    assert texts(server, "chat:2") == "It rains."


async def test_the_tool_loop_tells_the_model_what_its_tools_said(
    server: LocalServer,
) -> None:
    history = [{"role": "user", "content": "Will it rain in Kiel and in Bonn?"}]
    ask = Weather()
    with Producer("chat:tools") as stream:
        names: dict[str, Any] = {
            "stream": stream,
            "ask": ask,
            "history": history,
            "run_tool": lambda name, input: f"{name} {input['city']}: rain",
        }
        await run_snippet(of_the_ai_sdk("run_tool"), names)
    assert ask.asked == 2
    assert texts(server, "chat:tools") == "weather Kiel: rain, weather Bonn: rain"
    assert [one["role"] for one in history] == ["user", "assistant", "user"]


async def test_the_first_snippet_of_the_readme_writes_a_run(
    server: LocalServer,
) -> None:
    readme = SNIPPET.search((ROOT / "README.md").read_text())
    assert readme is not None
    await run_snippet(readme[1], {"llm": ["Hello", ", ", "world"]})
    assert chunks(server, "chat:42") == ["Hello", ", ", "world"]
    tail = server.log.store.last("chat:42")
    assert tail is not None
    assert tail.reason == "completed"
    watching = consume(server.url, server.token(), "chat:42")
    assert [chunk async for chunk in watching] == ["Hello", ", ", "world"]


async def test_the_hand_over_in_the_docs_makes_one_run_of_many_invocations(
    server: LocalServer,
) -> None:
    text = (ROOT / "docs/producer.md").read_text()
    (code,) = [match[1] for match in SNIPPET.finditer(text) if "hand_over" in match[1]]
    invoke = Invoke()
    steps = list(range(7))
    names: dict[str, Any] = {
        "agent": lambda after: iter(steps[after:]),
        "lambda_client": invoke,
    }
    await run_snippet(code, names)
    left = iter([60_000, 40_000, 20_000] * 3)
    context = types.SimpleNamespace(
        get_remaining_time_in_millis=lambda: next(left), function_name="job"
    )
    handler: Callable[..., None] = names["handler"]
    handler({"stream": "agent"}, context)
    while invoke.calls:
        handler(json.loads(invoke.calls.pop()["Payload"]), context)
    assert chunks(server, "agent") == steps
    kinds = [record.kind for record in server.log.store.range("agent", 1)]
    assert (kinds.count("open"), kinds.count("claim"), kinds.count("end")) == (1, 2, 1)


def test_the_api_reference_is_that_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("docs_api", ROOT / "docs/api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs/api.md").read_text()
    assert written == module.write(), "run `python docs/api.py`"
    missing = [name for name in tailrace.__all__ if f"`{name}`" not in written]
    assert missing == ["__version__"]
    missing = [name for name in aisdk.__all__ if f"### `{name}`" not in written]
    assert missing == ["Chunk"]


def test_the_package_brings_its_licence_and_says_what_it_is(tmp_path: Path) -> None:
    package = ROOT / "layers/tailrace"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d"]
    subprocess.run(
        [*build, str(tmp_path)], cwd=package, check=True, capture_output=True
    )
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    licence = (ROOT / "LICENSE").read_bytes()
    assert files["LICENSE"] == licence
    assert (ROOT / "clients/js/LICENSE").read_bytes() == licence
    readme = (package / "README.md").read_text()
    assert files["METADATA"].decode().endswith(readme)


def test_exit_codes_are_documented_as_they_are() -> None:
    table = (ROOT / "docs/consumer.md").read_text()
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    named = {value for value in vars(failures).values() if type(value) is int}
    assert codes == {0, 1} | named
