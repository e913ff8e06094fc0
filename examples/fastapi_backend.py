"""A backend: mints tokens, and begins answers that go on after the request has ended.

To try it, from the checkout's root:

    pip install ./layers/tailrace fastapi uvicorn anthropic
    export TAILRACE_STACK=tailrace ANTHROPIC_API_KEY=…
    uvicorn --app-dir examples fastapi_backend:app
"""

import asyncio
import logging
from typing import Annotated

from anthropic import AsyncAnthropic
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from tailrace import AsyncProducer, Busy, Cancelled, Superseded, mint_token

MODEL = "claude-sonnet-5-5"

app = FastAPI()
log = logging.getLogger("backend")
answering: set[asyncio.Task[None]] = set()


class Question(BaseModel):
    text: str


def user(x_user: Annotated[str, Header()] = "") -> str:
    """Your own authentication goes here. A user `bob:chat` would be granted what lies
    behind `user:bob:chat:`, and that is bob's: so an id has none of the separator."""
    if not x_user or ":" in x_user:
        raise HTTPException(401)
    return x_user


User = Annotated[str, Depends(user)]


@app.get("/token")
def token(user: User) -> PlainTextResponse:
    """What the browser's client fetches: a user's own streams, to watch and to stop."""
    mine = [f"user:{user}:*"]
    return PlainTextResponse(mint_token(user, read=mine, cancel=mine))


@app.post("/chats/{chat}/questions")
async def ask(chat: str, question: Question, user: User) -> dict[str, str]:
    """Begin an answer; the browser watches `stream`, where it is `run`."""
    try:
        producer = await AsyncProducer(
            f"user:{user}:chat:{chat}", on_active="fail", meta={"model": MODEL}
        ).open()
    except Busy:
        raise HTTPException(409, "an answer is being written") from None
    task = asyncio.create_task(answer(producer, question.text))
    answering.add(task)
    task.add_done_callback(answering.discard)
    return {"stream": producer.stream, "run": producer.run}


async def answer(producer: AsyncProducer, question: str) -> None:
    try:
        async with producer as stream, AsyncAnthropic() as llm:
            events = await llm.messages.create(
                model=MODEL,
                max_tokens=1024,
                messages=[{"role": "user", "content": question}],
                stream=True,
            )
            # A stop reaches the LLM also while it is silent.
            async for _ in stream.relay(events):
                pass
    except (Cancelled, Superseded):
        pass
    except Exception:
        log.exception("the answer broke off")
