"""List prices, each with its source. us-east-1, no free tier, no discount.

Looked up on 2026-11-22 and 2026-11-23.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """`dollars` for `per` units."""

    dollars: float
    per: float
    unit: str
    source: str

    def of(self, amount: float) -> float:
        return self.dollars * amount / self.per


M = 1e6
GB = 1e9

PRICES = {
    "write": Price(
        0.625,
        M,
        "DynamoDB write units (1 KB; also where a condition failed)",
        "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    ),
    "read": Price(
        0.125,
        M,
        "DynamoDB read units (4 KB, consistent)",
        "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    ),
    "table": Price(
        0.25,
        GB,
        "byte-months in a table (an item has 100 bytes beside its own)",
        "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    ),
    "request": Price(
        0.20, M, "Lambda requests", "https://aws.amazon.com/lambda/pricing/"
    ),
    "compute": Price(
        0.0000133334,
        1_000 * 1_024,
        "Lambda MB-ms, arm64 (starts too, since 2025-08)",
        "https://aws.amazon.com/lambda/pricing/",
    ),
    "message": Price(
        1.00,
        M,
        "API Gateway messages (32 KB), each way",
        "https://aws.amazon.com/api-gateway/pricing/",
    ),
    "minute": Price(
        0.25,
        M,
        "API Gateway connection minutes",
        "https://aws.amazon.com/api-gateway/pricing/",
    ),
    "log": Price(
        0.50,
        GB,
        "bytes of CloudWatch Logs (26 more a line)",
        "https://aws.amazon.com/cloudwatch/pricing/",
    ),
    "kept log": Price(
        0.03,
        GB,
        "byte-months of logs kept",
        "https://aws.amazon.com/cloudwatch/pricing/",
    ),
    "out": Price(
        0.09,
        GB,
        "bytes to the internet",
        "https://aws.amazon.com/ec2/pricing/on-demand/",
    ),
    "secret call": Price(
        0.05,
        1e4,
        "calls of Secrets Manager",
        "https://aws.amazon.com/secrets-manager/pricing/",
    ),
}

FREE = {
    "reading the change feed": "GetRecords by Lambda is free"
    " (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/"
    "CostOptimization_StreamsUsage.html)",
    "deletion by TTL": "free, and its entries in the feed are filtered away before an"
    " invocation"
    " (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html)",
    "the failure queue": "no message, as long as the fan-out does not give up",
}

MONTHLY = {
    "the secret": (0.40, "https://aws.amazon.com/secrets-manager/pricing/"),
    "a custom metric": (0.30, "https://aws.amazon.com/cloudwatch/pricing/"),
    "an alarm": (0.10, "https://aws.amazon.com/cloudwatch/pricing/"),
    "a dashboard": (3.00, "https://aws.amazon.com/cloudwatch/pricing/"),
}


@dataclass(frozen=True)
class Rival:
    """Somebody else's price for the same events: `publish` of each, and `deliver` to
    each watcher, per million; a channel's and a connection's minutes, per million."""

    name: str
    publish: float
    deliver: float
    connection: float
    channel: float
    note: str
    source: str
    batch: int = 1
    kept: str = "no"

    def of(self, events: float, watchers: int, answers: int, minutes: float) -> float:
        """Return the dollars of `answers` with so many events each, a connection of so
        many minutes for each watcher."""
        published = -(-events // self.batch) * self.publish
        delivered = events * watchers * self.deliver
        lived = minutes * (watchers * self.connection + self.channel)
        return answers * (published + delivered + lived) / M


RIVALS = (
    Rival(
        "AppSync Events",
        1.00,
        1.00,
        0.08,
        0.0,
        "per operation: a publish, a delivery. Stores nothing",
        "https://aws.amazon.com/appsync/pricing/",
    ),
    Rival(
        "AppSync Events, 5 events a call",
        1.00,
        1.00,
        0.08,
        0.0,
        "as above; a call with five events taken as one operation, which adds latency",
        "https://docs.aws.amazon.com/appsync/latest/eventapi/publish-http.html",
        batch=5,
    ),
    Rival(
        "Ably",
        2.50,
        2.50,
        1.00,
        1.00,
        "per-minute pricing, $2.50 a million messages; and $29 a month",
        "https://ably.com/docs/pricing",
        kept="its own history",
    ),
    Rival(
        "Pusher Channels",
        1.63,
        1.63,
        0.0,
        0.0,
        "$49 a month for a million messages a day, all of them used every day",
        "https://blog.mattheworiordan.com/p/transparent-pricing-that-rewards",
    ),
    Rival(
        "Upstash Redis",
        4.00,
        0.0,
        0.0,
        0.0,
        "$0.20 per 100,000 commands: XADD and PUBLISH an event; the servers that hold"
        " the sockets are not in it",
        "https://upstash.com/pricing/redis",
        kept="yes",
    ),
)
