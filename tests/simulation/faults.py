"""What can go wrong, and how often it does in one world.

Each seed takes some of the kinds at some rate (swarm testing: a fault that is always on
hides what another would find). After the faults stop, none of them happens any more.
"""

from __future__ import annotations

from .kernel import Kernel

KINDS = {
    "put-never": "a put is not applied, and nobody says so",
    "put-lost": "a put is applied, its answer lost",
    "put-late": "a put is applied when its caller has given up",
    "put-twice": "a put is sent twice by the network",
    "read-fails": "a read of the log is throttled or lost",
    "state-fails": "a call to the state's table is throttled or lost",
    "state-lost": "a row is written, the answer lost",
    "slow-table": "a call to a table takes a second",
    "ttl": "TTL deletes on time, in any order, rows and records",
    "wrong-410": "a push to a living connection is answered 410",
    "throttled": "a push is answered 429",
    "push-lost": "a push is answered 200 and never arrives",
    "push-slow": "a push takes longer than the function waits",
    "buffer-full": "a client reads slowly; what is more than its buffer is 429",
    "cut": "a socket is cut, and both sides know",
    "half-open": "a socket is cut, and neither side knows",
    "no-disconnect": "API Gateway never says that a connection is gone",
    "late-disconnect": "it says so when the client is long back",
    "frame-lost": "a client's frame gets no function: API Gateway says so",
    "killed": "a function is killed between two calls, or times out",
    "frozen": "a process stands still for seconds",
    "skew": "clocks disagree",
    "feed-repeats": "the change feed brings a batch again",
    "feed-late": "the change feed stands still for a while",
    "feed-splits": "a shard of the change feed is split",
    "poison": "a record of the change feed cannot be read",
    "tokenless": "a client's token cannot be had now",
    "odd-frames": "a client gets a frame that it does not know",
    "keys-rotate": "the key ring gets another key, and loses the one before",
    "strict": "the quotas of a client are small",
    "push-fails": "a push is answered 500",
    "share-refused": "Lambda takes no share of an audience now",
}

HAPPENINGS = {
    "cold": "a function starts in a new container",
    "timed-out": "a function is stopped by its time-out",
    "died": "a producer's machine is gone between two calls",
    "stood-still": "a producer pauses for seconds or minutes, and goes on",
    "taken-over": "an attempt goes on where an earlier one was",
    "handed-over": "a writer hands its run over",
    "grew": "a call whose answer was lost is repeated with more chunks",
    "broke": "a job is interrupted in the midst of a call",
    "wrong-clock": "a producer's clock is minutes ahead until AWS sets it",
    "repeated-job": "a job is delivered while another attempt is under way",
    "partial": "a batch of the feed comes again from its first failed record",
    "bisected": "a batch of the feed is halved",
    "given-up-retries": "the feed gives records up after its retries",
    "given-up-age": "the feed gives records up for their age",
    "gone": "a push is answered 410, and rightly",
    "overtaken": "of two posts to one connection the later arrives first",
    "idle": "a connection is closed after 10 minutes of silence",
    "rotated": "a client has a second socket before it closes the first",
    "too-long": "a frame is longer than API Gateway takes",
    "kept-on": "TTL has not deleted what has expired",
    "reload": "a page is loaded again",
    "sleep": "a laptop is closed for a while",
    "stall": "a page's timers stand still, and its socket does not",
    "toggle": "somebody stops watching and watches again at once",
    "cancel": "somebody presses stop in a tab",
    "auth": "a tab changes its token",
    "narrow": "a tab's token is changed for one that grants less",
    "open": "somebody opens another tab",
    "pause": "a reader has no room for a while",
    "twin": "a program reads a stream a second time",
    "crowd": "a program watches more streams than a connection may",
    "quit": "a program closes its client, and takes a new one",
    "one-run": "a reader is done when its run is",
    "token-refused": "a client is told that it gets no token, ever",
    "turned-away": "somebody comes with a token that is none",
    "deleted": "a stream is deleted",
    "too-fast": "a client sends too fast, and is closed",
    "evicted": "of too many connections of one sub the oldest is closed",
    "throttled-replay": "a sub has replayed too much, and waits",
    "compacted": "a consumer is shown compacted chunks",
    "handed-share": "a share of an audience is pushed by another invocation",
    "lost-share": "that invocation dies",
}
"""What happens in worlds beyond the dice above; counted to see that all of it does."""

CHATS = {
    "job-fails": "the job function cannot be invoked, as far as is known",
    "babbled": "a job writes a chunk that is none of the AI SDK's",
    "thought": "a job has nothing to say for minutes",
    "send": "a client of ours has an answer started",
    "repeat": "it says so again, also on another connection",
    "ask": "it asks in the SDK's dialect",
    "resume": "it asks for what goes on",
    "abort": "it lets go of a request",
    "hasty": "it lets go of one just as it asks for it",
    "auth": "it changes its token",
    "narrow": "its new token grants less",
    "subscribe": "it subscribes on the same socket",
    "crowd": "it has more requests than a connection may",
    "stranger": "it asks for what is not granted, or is no request",
    "cut": "its socket is cut",
    "told-broke-off": "it is told that an answer was cut short",
    "told-too_many": "it is told that it asks for too much",
    "told-forbidden": "it is told that it may not",
    "told-unauthorized": "it is told that its token has run out",
    "told-unavailable": "it is told to ask again",
    "state-twice": "a row is written, its answer lost, and the call made again",
    "queue-fails": "the queue does not answer",
    "queue-repeats": "a message comes twice",
}
"""What happens in the worlds of chats."""


class Faults:
    """The rates of one world. `hits(kind)` counts what did happen."""

    def __init__(self, kernel: Kernel, without: frozenset[str] = frozenset()) -> None:
        dice = kernel.dice("faults")
        calm = dice.random() < 0.1
        self.rates: dict[str, float] = {}
        for kind in KINDS:
            there, rate = dice.random() < 0.4, dice.choice([0.02, 0.05, 0.15, 0.3])
            if there and not calm and kind not in without:
                self.rates[kind] = rate
        self.on = True
        self.hits: dict[str, int] = {}
        self._kernel = kernel

    def hit(self, kind: str, share: float = 1.0) -> bool:
        """Whether it happens now. `share`: of the kind's rate."""
        rate = self.rates.get(kind)
        if rate is None or not self.on:
            return False
        if self._kernel.dice(kind).random() >= rate * share:
            return False
        self.hits[kind] = self.hits.get(kind, 0) + 1
        return True

    def note(self, happening: str) -> None:
        self.hits[happening] = self.hits.get(happening, 0) + 1

    def has(self, kind: str) -> bool:
        """Whether this world knows the kind at all, and now."""
        there = self.on and kind in self.rates
        if there:
            self.hits[kind] = self.hits.get(kind, 0) + 1
        return there
