"""Each role has what its function needs, and nothing that it does not.

For every action that a role allows there is a case here that needs it: the case is
played with the role as deployed, where it must succeed, and with that one action
denied, where it must fail.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import boto3
import pytest
from botocore.exceptions import ClientError
from samtranslator.yaml_helper import yaml_parse
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

import tailrace
from demo.local_aws import REGION, ROOT
from demo.stack import FunctionName, LocalStack
from tailrace.adapters.calls import AwsClock, config
from tailrace.adapters.dynamodb import DynamoDBLog, DynamoDBState
from tailrace.audience import SHARE
from tailrace.log import Log
from tailrace.transports.in_process import InProcess
from tests.support.answers import JOB
from tests.support.deployed import Deployed

TIMEOUT = 30
RUN = "01a00000-0000-7000-8000-000000000000"

Frame = dict[str, Any]
On = Literal["Log", "State", "KeyRing", "POST", "DELETE", "JobFunction", "fanout"]


class Refused(Exception):
    """What was asked for did not happen."""


# --- a client, and a producer -----------------------------------------------------


@contextlib.contextmanager
def client(deployed: Deployed, *streams: str, **claims: Any) -> Iterator["Client"]:
    url = f"{deployed.stack.socket_url}?token={deployed.token(*streams, **claims)}"
    try:
        socket = connect(url, proxy=None)
    except InvalidHandshake as error:
        raise Refused(str(error)) from error
    with socket:
        yield Client(socket)


class Client:
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.n = 0

    def receive(self) -> Frame:
        text = self.socket.recv(timeout=TIMEOUT)
        try:
            frame: Frame = json.loads(text)
        except ValueError:
            # The gateway's word for a function that failed.
            raise Refused(text) from None
        return frame

    def send(self, type: str, **fields: Any) -> None:
        self.n += 1
        self.socket.send(json.dumps({"type": type, "n": self.n, **fields}))

    def ask(self, type: str, **fields: Any) -> Frame:
        self.send(type, **fields)
        while (frame := self.receive()).get("n") != self.n:
            pass
        if frame["type"] == "error":
            raise Refused(frame)
        return frame

    def closed(self) -> None:
        with pytest.raises(ConnectionClosed):
            while True:
                self.receive()


def publish(deployed: Deployed, operation: str, **arguments: Any) -> Frame:
    stack = deployed.stack
    invoked = stack.lambda_.invoke(
        FunctionName=stack.function("publish"),
        Payload=json.dumps({"operation": operation, **arguments}),
    )
    answer: Frame = json.loads(invoked["Payload"].read())
    if invoked.get("FunctionError") or "error" in answer:
        raise Refused(answer)
    return answer


def new_run(deployed: Deployed, **arguments: Any) -> tuple[str, str]:
    """Open a run; return its stream and its id."""
    stream = deployed.new_stream("iam")
    return stream, publish(deployed, "open", stream=stream, writer="w", **arguments)[
        "run"
    ]


# --- the cases: websocket ---------------------------------------------------------


def connects(deployed: Deployed) -> None:
    with client(deployed):
        pass


def connects_after_a_cold_start(deployed: Deployed) -> None:
    # A process reads the ring once; a new configuration starts a new process.
    name = deployed.stack.function("websocket")
    settings = deployed.stack.lambda_.get_function_configuration(FunctionName=name)
    deployed.stack.lambda_.update_function_configuration(
        FunctionName=name, MemorySize=settings["MemorySize"]
    )
    connects(deployed)


def is_known(deployed: Deployed) -> None:
    with client(deployed) as one:
        one.ask("sync", streams={})


def syncs(deployed: Deployed) -> None:
    with client(deployed) as one:
        one.ask("subscribe", stream=deployed.new_stream("iam"))


def unsubscribes(deployed: Deployed) -> None:
    stream = deployed.new_stream("iam")
    with client(deployed) as one:
        one.ask("subscribe", stream=stream)
        one.ask("unsubscribe", stream=stream)


def refreshes_its_token(deployed: Deployed) -> None:
    with client(deployed) as one:
        one.ask("auth", token=deployed.token())


def cancels(deployed: Deployed) -> None:
    with client(deployed) as one:
        one.ask("cancel", stream=deployed.new_stream("iam"), run=RUN)


def sees_a_dead_producer(deployed: Deployed) -> None:
    stream, _ = new_run(deployed)
    an_hour_ago(deployed, stream)
    with client(deployed) as one:
        answer = one.ask("subscribe", stream=stream)
        assert answer["active"] is False


def an_hour_ago(deployed: Deployed, stream: str) -> None:
    """Let the run in the stream have been opened an hour ago."""
    deployed.stack.dynamodb.update_item(
        TableName=deployed.stack.log_table,
        Key={"stream": {"S": stream}, "seq": {"N": "1"}},
        UpdateExpression="SET #at = :at",
        ExpressionAttributeNames={"#at": "at"},
        ExpressionAttributeValues={":at": {"N": str(int(time.time() - 3600) * 1000)}},
    )


def is_closed_when_expired(deployed: Deployed) -> None:
    with client(deployed, expires_in=-60) as one:
        one.send("sync", streams={})
        assert one.receive()["code"] == "unauthorized"
        one.closed()


def sends(deployed: Deployed) -> None:
    with client(deployed, send=["*"]) as one:
        stream = deployed.new_stream("iam")
        one.ask("send", stream=stream, requestId=uuid.uuid4().hex)


# --- the cases: publish -----------------------------------------------------------


def opens(deployed: Deployed) -> None:
    new_run(deployed)


def reads_the_tail(deployed: Deployed) -> None:
    publish(deployed, "tail", stream=deployed.new_stream("iam"))


def deletes(deployed: Deployed) -> None:
    stream, _ = new_run(deployed)
    assert publish(deployed, "delete", stream=stream)["deleted"] > 0


def counts_watchers(deployed: Deployed) -> None:
    publish(deployed, "watchers", stream=deployed.new_stream("iam"))


def claims_an_old_run(deployed: Deployed) -> None:
    stream, run = new_run(deployed)
    an_hour_ago(deployed, stream)
    publish(deployed, "claim", stream=stream, run=run, writer="w2")


def renews(deployed: Deployed) -> None:
    stream, run = new_run(deployed)
    publish(deployed, "renew", stream=stream, run=run, writer="w")


def disconnects(deployed: Deployed) -> None:
    sub = uuid.uuid4().hex
    with client(deployed, sub=sub) as one:
        assert publish(deployed, "disconnect", sub=sub)["disconnected"] == 1
        one.closed()


# --- the cases: fan-out -----------------------------------------------------------


def pushes(deployed: Deployed) -> None:
    stream = deployed.new_stream("iam")
    with client(deployed) as one:
        one.ask("subscribe", stream=stream)
        with crashes_are_refusals(deployed, "fanout") as check:
            publish(deployed, "open", stream=stream, writer="w")
            while True:
                with contextlib.suppress(TimeoutError):
                    frame = json.loads(one.socket.recv(timeout=0.2))
                    assert frame["type"] == "slice"
                    return
                check()


def serves_the_sdk(deployed: Deployed) -> None:
    chat = uuid.uuid4().hex
    with (
        client(deployed, send=["*"]) as one,
        crashes_are_refusals(deployed, "fanout") as check,
    ):
        frame = {"type": "send", "requestId": "r", "id": chat, "body": {"all": 1}}
        one.socket.send(json.dumps(frame))
        # All the rest is pushed from the change feed.
        while True:
            with contextlib.suppress(TimeoutError):
                frame = json.loads(one.socket.recv(timeout=0.2))
                if frame["type"] == "end":
                    break
            check()
    check()


def forgets_who_is_gone(deployed: Deployed) -> None:
    stream = deployed.new_stream("iam")
    state = deployed.stack.state_table
    key = {"pk": {"S": f"stream#{stream}"}, "sk": {"S": "nobody"}}
    later = {"N": str(int(time.time()) + 600)}
    deployed.stack.dynamodb.put_item(
        TableName=state,
        Item={**key, "n": {"N": "1"}, "exp": later, "expires_at": later},
    )
    with crashes_are_refusals(deployed, "fanout") as check:
        publish(deployed, "open", stream=stream, writer="w")
        while "Item" in deployed.stack.dynamodb.get_item(TableName=state, Key=key):
            check()
            time.sleep(0.05)


def hands_over(deployed: Deployed) -> None:
    """What cannot be handed over is pushed all the same; but that is counted."""
    stream = deployed.new_stream("iam")
    stack = deployed.stack
    later = {"N": str(int(time.time()) + 600)}
    for number in range(SHARE + 1):
        key = {"pk": {"S": f"stream#{stream}"}, "sk": {"S": f"nobody{number}"}}
        stack.dynamodb.put_item(
            TableName=stack.state_table,
            Item={**key, "n": {"N": "1"}, "exp": later, "expires_at": later},
        )

    def counted(metric: str) -> int:
        return sum(f'"{metric}"' in line for line in stack.logs("fanout"))

    refused, handed = counted("SharesRefused"), counted("SharesHandedOver")
    publish(deployed, "open", stream=stream, writer="w")
    deadline = time.monotonic() + TIMEOUT
    while counted("SharesHandedOver") == handed:
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)
    if counted("SharesRefused") > refused:
        raise Refused("its shares")


@contextlib.contextmanager
def crashes_are_refusals(
    deployed: Deployed, function: FunctionName
) -> Iterator[Callable[[], None]]:
    """Yield a check that raises `Refused` if the function has crashed since."""

    def crashes() -> list[str]:
        return [line for line in deployed.stack.logs(function) if "crashed" in line]

    before = len(crashes())
    deadline = time.monotonic() + TIMEOUT

    def check() -> None:
        if (found := crashes())[before:]:
            raise Refused(found[-1])
        assert time.monotonic() < deadline, "nothing happened"

    yield check


# --- what needs what --------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    function: FunctionName
    action: str
    on: On
    play: Callable[[Deployed], None]

    def __str__(self) -> str:
        return f"{self.function}-{self.action.split(':')[1]}-{self.on}"


CONNECTIONS = "execute-api:ManageConnections"
NAMES: tuple[str, ...] = get_args(On)
CASES = [
    Case(
        "websocket",
        "secretsmanager:GetSecretValue",
        "KeyRing",
        connects_after_a_cold_start,
    ),
    Case("websocket", "dynamodb:BatchWriteItem", "State", connects),
    Case("websocket", "dynamodb:PutItem", "State", syncs),
    Case("websocket", "dynamodb:Query", "State", is_known),
    Case("websocket", "dynamodb:GetItem", "State", sees_a_dead_producer),
    Case("websocket", "dynamodb:DeleteItem", "State", unsubscribes),
    Case("websocket", "dynamodb:UpdateItem", "State", refreshes_its_token),
    Case("websocket", "dynamodb:Query", "Log", syncs),
    Case("websocket", "dynamodb:PutItem", "Log", cancels),
    Case("websocket", CONNECTIONS, "POST", is_known),
    Case("websocket", CONNECTIONS, "DELETE", is_closed_when_expired),
    Case("websocket", "lambda:InvokeFunction", "JobFunction", sends),
    Case("publish", "dynamodb:PutItem", "Log", opens),
    Case("publish", "dynamodb:Query", "Log", reads_the_tail),
    Case("publish", "dynamodb:DeleteItem", "Log", deletes),
    Case("publish", "dynamodb:Query", "State", counts_watchers),
    Case("publish", "dynamodb:GetItem", "State", claims_an_old_run),
    Case("publish", "dynamodb:PutItem", "State", renews),
    Case("publish", "dynamodb:BatchWriteItem", "State", disconnects),
    Case("publish", "dynamodb:DeleteItem", "State", disconnects),
    Case("publish", CONNECTIONS, "DELETE", disconnects),
    Case("fanout", "dynamodb:Query", "State", pushes),
    Case("fanout", CONNECTIONS, "POST", pushes),
    Case("fanout", "dynamodb:DeleteItem", "State", forgets_who_is_gone),
    Case("fanout", "lambda:InvokeFunction", "fanout", hands_over),
    Case("fanout", "dynamodb:Query", "Log", serves_the_sdk),
    Case("fanout", "dynamodb:UpdateItem", "State", serves_the_sdk),
]

# What Lambda does with the role by itself, which the emulator does without asking.
BY_LAMBDA = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
}


@contextlib.contextmanager
def denied(stack: LocalStack, case: Case) -> Iterator[None]:
    """Take one action on one resource from a function's role."""
    role = stack.lambda_.get_function_configuration(
        FunctionName=stack.function(case.function)
    )["Role"].rsplit("/", 1)[-1]
    resource = {
        "Log": f"arn:aws:dynamodb:{REGION}:*:table/{stack.log_table}",
        "State": f"arn:aws:dynamodb:{REGION}:*:table/{stack.state_table}",
        "KeyRing": stack.key_ring_arn,
        "POST": "arn:aws:execute-api:*:*:*/v1/POST/@connections/*",
        "DELETE": "arn:aws:execute-api:*:*:*/v1/DELETE/@connections/*",
        "JobFunction": f"arn:aws:lambda:*:*:function:{JOB}",
        "fanout": f"arn:aws:lambda:*:*:function:{stack.function('fanout')}",
    }[case.on]
    statement = {"Effect": "Deny", "Action": case.action, "Resource": resource}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    stack.iam.put_role_policy(
        RoleName=role, PolicyName="denied", PolicyDocument=document
    )
    try:
        yield
    finally:
        stack.iam.delete_role_policy(RoleName=role, PolicyName="denied")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_function_needs_and_has_each_action(deployed: Deployed, case: Case) -> None:
    with denied(deployed.stack, case), pytest.raises(Refused):
        case.play(deployed)
    case.play(deployed)


def test_no_role_has_an_action_that_nothing_needs() -> None:
    template = yaml_parse((ROOT / "template.yaml").read_text())
    allowed = {
        (name, action, on)
        for name in ("websocket", "publish", "fanout")
        for given in template["Resources"][f"{name.capitalize()}Role"]["Properties"][
            "Policies"
        ][0]["PolicyDocument"]["Statement"]
        if (statement := in_this_stack(given))
        for action in listed(statement["Action"])
        if action not in BY_LAMBDA
        for on in map(resource_name, listed(statement["Resource"]))
    }
    assert allowed == {(case.function, case.action, case.on) for case in CASES}


def in_this_stack(statement: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a statement is in the stack that is deployed here: with chats, and
    not in Direct delivery."""
    if "Fn::If" not in statement:
        return statement
    condition, then, _ = statement["Fn::If"]
    return then if condition == "HasJobFunction" else None


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def resource_name(resource: Any) -> str:
    text = json.dumps(resource)
    return next(name for name in NAMES if name in text)


# --- publishers -------------------------------------------------------------------


@pytest.fixture
def producer(stack: LocalStack, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Make a user with one of the exported policies; yield its boto3 session."""
    user = f"producer-{uuid.uuid4().hex[:8]}"
    policy = stack.outputs[request.param]
    stack.iam.create_user(UserName=user)
    stack.iam.attach_user_policy(UserName=user, PolicyArn=policy)
    key = stack.iam.create_access_key(UserName=user)["AccessKey"]
    yield boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name=REGION)
    stack.iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    stack.iam.detach_user_policy(UserName=user, PolicyArn=policy)
    stack.iam.delete_user(UserName=user)


@contextlib.contextmanager
def access_denied() -> Iterator[None]:
    with pytest.raises(ClientError) as refused:
        yield
    assert "AccessDenied" in refused.value.response["Error"]["Code"]


@pytest.mark.parametrize("producer", ["PublishInvokePolicyArn"], indirect=True)
def test_the_invoke_policy_lets_a_producer_publish_and_no_more(
    deployed: Deployed, producer: boto3.Session
) -> None:
    stack = deployed.stack
    invoker = producer.client("lambda", endpoint_url=stack.endpoint)
    call = {"operation": "tail", "stream": deployed.new_stream("iam")}
    answer = invoker.invoke(
        FunctionName=stack.function("publish"), Payload=json.dumps(call)
    )
    assert json.loads(answer["Payload"].read())["tail"] == 0
    with access_denied():
        invoker.invoke(FunctionName=stack.function("fanout"), Payload="{}")
    table = producer.client("dynamodb", endpoint_url=stack.endpoint)
    with access_denied():
        table.get_item(
            TableName=stack.log_table,
            Key={"stream": {"S": "a"}, "seq": {"N": "1"}},
        )


@pytest.mark.parametrize("producer", ["PublishInProcessPolicyArn"], indirect=True)
def test_the_in_process_policy_lets_a_producer_append_and_not_remove(
    deployed: Deployed, producer: boto3.Session
) -> None:
    stack = deployed.stack
    table = producer.client("dynamodb", endpoint_url=stack.endpoint)
    key = {"stream": {"S": deployed.new_stream("iam")}, "seq": {"N": "1"}}
    table.put_item(TableName=stack.log_table, Item={**key, "kind": {"S": "test"}})
    with access_denied():
        table.delete_item(TableName=stack.log_table, Key=key)
    with access_denied():
        table.scan(TableName=stack.log_table)
    secrets = producer.client("secretsmanager", endpoint_url=stack.endpoint)
    with access_denied():
        secrets.get_secret_value(SecretId=stack.key_ring_arn)


# What the policy for producers in-process allows, but for Direct delivery, of which
# test_direct.py has the tests.
IN_PROCESS = [
    ("dynamodb:PutItem", "Log"),
    ("dynamodb:Query", "Log"),
    ("dynamodb:GetItem", "State"),
    ("dynamodb:PutItem", "State"),
    ("dynamodb:Query", "State"),
]


def produce_in_process(deployed: Deployed, producer: boto3.Session) -> None:
    """Play all that a producer may do with the tables; raises what it is denied."""
    stack, stream, run = deployed.stack, deployed.new_stream("iam"), tailrace.new_run()
    client = producer.client(
        "dynamodb", endpoint_url=stack.endpoint, config=config(read_timeout=10)
    )
    state = DynamoDBState(client, stack.state_table)
    store = DynamoDBLog(client, stack.log_table)
    log = Log(store, state, AwsClock(), retention=3_600, lease=30)
    transport = InProcess(log, lambda stream: None)
    opened = transport.open(
        stream, run, "one", on_active="supersede", lease=30, meta=None
    )
    transport.append(stream, run, "one", opened.next, ['"a"'])
    transport.renew(stream, run, "one", lease=30, handed_over=True)
    claimed = transport.claim(stream, run, "two", seq=None, lease=30)
    assert transport.ask({"operation": "watchers", "stream": stream})["watchers"] == 0
    transport.end(stream, run, "two", claimed.next, "completed", None)


@pytest.mark.parametrize(("action", "on"), IN_PROCESS)
@pytest.mark.parametrize("producer", ["PublishInProcessPolicyArn"], indirect=True)
def test_a_producer_in_process_needs_and_has_each_action(
    deployed: Deployed, producer: boto3.Session, action: str, on: str
) -> None:
    stack = deployed.stack
    user = producer.client("sts", endpoint_url=stack.endpoint).get_caller_identity()
    name = user["Arn"].rsplit("/", 1)[-1]
    table = {"Log": stack.log_table, "State": stack.state_table}[on]
    statement = {
        "Effect": "Deny",
        "Action": action,
        "Resource": f"arn:aws:dynamodb:{REGION}:*:table/{table}",
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    denial = {"UserName": name, "PolicyName": "denied"}
    stack.iam.put_user_policy(**denial, PolicyDocument=document)
    try:
        with access_denied():
            produce_in_process(deployed, producer)
    finally:
        stack.iam.delete_user_policy(**denial)
    produce_in_process(deployed, producer)


def test_the_in_process_policy_has_no_action_that_nothing_needs() -> None:
    template = yaml_parse((ROOT / "template.yaml").read_text())
    policy = template["Resources"]["PublishInProcessPolicy"]["Properties"]
    allowed = {
        (action, on)
        for given in policy["PolicyDocument"]["Statement"]
        if (statement := in_this_stack(given))
        for action in listed(statement["Action"])
        for on in map(resource_name, listed(statement["Resource"]))
    }
    assert allowed == set(IN_PROCESS)
