"""What the demo's job says: a text for a question, cut into pieces like a model's.

Pure, but for the texts, which are files. Nothing here is generated; the page says so.
"""

import math
import random
import re
from collections.abc import Iterator
from pathlib import Path

TEXTS = Path(__file__).resolve().parent / "texts"

QUESTIONS = {
    "Why do streamed answers break?": "why-streams-break",
    "How does Tailrace work?": "how-tailrace-works",
    "What happens when the job dies?": "when-a-job-dies",
    "What is a change feed?": "change-feeds",
    "What does API Gateway not allow?": "gateway-limits",
    "What is a tailrace, anyway?": "what-is-a-tailrace",
}
"""The questions that the page suggests, and the name of the text that answers each."""

_KEYWORDS = {
    "when-a-job-dies": "job die dies dead kill killed crash crashes lost lease claim",
    "change-feeds": "feed feeds change dynamodb streams lambda trigger cdc outbox",
    "gateway-limits": "api gateway limit limits websocket websockets timeout frame",
    "what-is-a-tailrace": "name word mill water river meaning called tailrace",
    "why-streams-break": "why break breaks sse eventsource reload http proxy drop",
    "how-tailrace-works": "how work works log cursor replay seq resume architecture",
}
_OTHERWISE = "honest"

# A model's tokens: mostly a short word with the space before it, or a piece of one.
_TOKEN = re.compile(r"\s?[^\W\d_]{1,6}|\s?\d{1,3}|\s?[^\w\s]|\s+|_")

# What the hesitations leave for the other tokens, at 40 a second.
_SHARE_OF_HESITATION = 0.93


def answer(question: str) -> str:
    """Return the text for a question: the fitting one, or one that owns up."""
    name = QUESTIONS.get(question) or _guess(question)
    return (TEXTS / f"{name}.txt").read_text(encoding="utf-8").strip()


def _guess(question: str) -> str:
    words = set(re.findall(r"[a-z]+", question.lower()))
    scores = {
        name: len(words & set(keywords.split())) for name, keywords in _KEYWORDS.items()
    }
    best = max(scores, key=lambda name: scores[name])
    # One word in common is chance.
    return best if scores[best] > 1 else _OTHERWISE


def tokens(text: str) -> list[str]:
    """Cut a text into pieces of a few letters; joined, they are the text."""
    return _TOKEN.findall(text)


def pauses(seed: str, per_second: float = 40) -> Iterator[float]:
    """Yield, for ever, the seconds that a model takes for each token.

    The first takes longest; the others come at `per_second` on average, unevenly, with
    a hesitation now and then. The same seed makes the same pauses.
    """
    chance = random.Random(seed)
    yield 0.4 + 0.3 * chance.random()
    spread = 0.5
    usual = _SHARE_OF_HESITATION / per_second / math.exp(spread**2 / 2)
    while True:
        if chance.random() < 0.004:
            yield 0.3 + 0.4 * chance.random()
        else:
            yield usual * chance.lognormvariate(0, spread)
