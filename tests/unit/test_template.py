"""What the template promises: least privilege, nothing kept longer than asked for."""

import copy
import hashlib
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from samcli.cli.types import CfnParameterOverridesType
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from tailrace.config import Settings

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ("Websocket", "Publish", "Fanout")
STATEFUL = {
    "AWS::DynamoDB::Table",
    "AWS::Logs::LogGroup",
    "AWS::SecretsManager::Secret",
    "AWS::SQS::Queue",
}

CALLER = "WebsocketRole"
"""Who may invoke the job function."""

ITSELF = "${AWS::StackName}-fanout"
"""The fan-out function, by the name that it is given."""

TWICE = {"Fn::Sub": "${JobFunction}:function:${JobFunction}"}

Resource = dict[str, Any]


@cache
def source() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
    return parsed


@cache
def translated() -> dict[str, Resource]:
    """Return the resources that CloudFormation would be given."""
    template = copy.deepcopy(source())
    for resource in template["Resources"].values():
        for uri in ("CodeUri", "ContentUri"):
            if uri in resource["Properties"]:  # sam uploads it before it translates
                resource["Properties"][uri] = "s3://bucket/key"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        template = transform(template, {}, SimpleNamespace(load=dict))
    resources: dict[str, Resource] = template["Resources"]
    return resources


def of_type(kind: str) -> dict[str, Resource]:
    return {
        name: resource
        for name, resource in translated().items()
        if resource["Type"] == kind
    }


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = translated()[name]["Properties"]
    return found


def statements() -> list[tuple[str, dict[str, Any]]]:
    """Return every statement of every policy, with the resource it stands in."""
    found = []
    for name, role in of_type("AWS::IAM::Role").items():
        for policy in role["Properties"].get("Policies", []):
            document = policy["PolicyDocument"]
            found += [(name, one_of(s)) for s in document["Statement"]]
    for name, managed in of_type("AWS::IAM::ManagedPolicy").items():
        document = managed["Properties"]["PolicyDocument"]
        found += [(name, one_of(s)) for s in document["Statement"]]
    return found


def one_of(value: Any) -> Any:
    """Return what a value is where it is there at all: in Direct delivery, in a stack
    that has a job function, or with SnapStart."""
    if not isinstance(value, dict) or "Fn::If" not in value:
        return value
    condition, there, otherwise = value["Fn::If"]
    assert condition in ("IsDirect", "HasJobFunction", "HasSnapStart")
    assert otherwise == {"Ref": "AWS::NoValue"}, "no parameter, no right"
    return there


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- who may do what --------------------------------------------------------------


def test_no_policy_allows_an_action_by_wildcard() -> None:
    assert statements()
    for name, statement in statements():
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            assert "*" not in action, name


def test_every_action_is_allowed_on_a_resource_of_this_stack_only() -> None:
    for name, statement in statements():
        for resource in listed(statement["Resource"]):
            if resource == "*":
                # The only action here that AWS lets nobody restrict.
                assert listed(statement["Action"]) == ["dynamodb:ListStreams"], name
                continue
            text = json.dumps(one_of(resource))
            if name == "FanoutRole" and f":function:{ITSELF}" in text:
                continue
            named = re.findall(r'"(?:Ref|Fn::GetAtt)": \[?"(\w+)|\$\{(\w+)\}', text)
            ours = set(source()["Resources"])
            if statement["Action"] == "lambda:InvokeFunction" and name == CALLER:
                ours = {"JobFunction"}
            assert {a or b for a, b in named} & ours, (name, text)


def test_the_fan_out_is_told_and_may_invoke_itself_and_nothing_else() -> None:
    """A role that named the function by reference would wait for it, and it for the
    role."""
    fanout = properties("FanoutFunction")
    assert fanout["FunctionName"] == {"Fn::Sub": ITSELF}
    told = fanout["Environment"]["Variables"]["TAILRACE_FANOUT_FUNCTION"]
    snapshot = {"Fn::Sub": f"{ITSELF}:live"}
    assert told == {"Fn::If": ["HasSnapStart", snapshot, {"Fn::Sub": ITSELF}]}
    invoked = {
        name: [one_of(resource) for resource in statement["Resource"]]
        for name, statement in statements()
        if "lambda:InvokeFunction" in listed(statement["Action"]) and name != CALLER
    }
    function, alias = [one["Fn::Sub"] for one in invoked.pop("FanoutRole")]
    assert function.endswith(f":function:{ITSELF}")
    assert alias == f"{function}:live"
    assert invoked == {
        name: [{"Fn::GetAtt": [f"{of}Function", "Arn"]}, {"Ref": f"{of}Alias"}]
        for name, of in (
            ("PublishInvokePolicy", "Publish"),
            ("PublishRole", "Fanout"),
            ("PublishInProcessPolicy", "Fanout"),
        )
    }


def test_only_the_websocket_function_may_invoke_the_job_function_and_no_other() -> None:
    resources = [
        statement["Resource"]
        for name, statement in statements()
        if name == CALLER and "lambda:InvokeFunction" in listed(statement["Action"])
    ]
    assert resources == [
        {
            "Fn::Sub": [
                "arn:${AWS::Partition}:lambda:${AWS::Region}:"
                "${AWS::AccountId}:function:${Name}",
                {"Name": {"Fn::Select": [1, {"Fn::Split": [":function:", TWICE]}]}},
            ]
        }
    ]


@pytest.mark.parametrize(
    "name", ["answers", "answers:live", "my-function", "my-function:live"]
)
def test_a_job_function_is_the_same_by_name_and_by_arn(name: str) -> None:
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{name}"
    for given in (name, arn):
        twice = TWICE["Fn::Sub"].replace("${JobFunction}", given)
        assert twice.split(":function:")[1] == name


@pytest.mark.parametrize(
    ("function", "allowed"),
    [
        ("", True),
        ("answers", True),
        ("answers:live", True),
        ("arn:aws:lambda:eu-west-1:123456789012:function:answers", True),
        ("arn:aws-cn:lambda:cn-north-1:123456789012:function:answers:$LATEST", True),
        ("*", False),
        ("arn:aws:lambda:eu-west-1:123456789012:function:*", False),
        ("arn:aws:sns:eu-west-1:123456789012:answers", False),
    ],
)
def test_a_job_function_is_one_function(function: str, allowed: bool) -> None:
    pattern = source()["Parameters"]["JobFunction"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, function)) is allowed


def test_without_a_job_function_nothing_of_the_chats_is_there() -> None:
    for name in ("Repairs", "RepairFailures", "RepairsMapping", "RepairFailuresAlarm"):
        assert translated()[name]["Condition"] == "HasJobFunction"
    for function in ("Websocket", "Fanout"):
        variables = properties(f"{function}Function")["Environment"]["Variables"]
        assert one_of(variables["TAILRACE_REPAIRS_URL"]) == {"Ref": "Repairs"}


def test_a_repair_is_not_done_twice_and_not_for_ever() -> None:
    queue = properties("Repairs")
    assert queue["VisibilityTimeout"] > properties("WebsocketFunction")["Timeout"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    assert properties("RepairsMapping")["BatchSize"] == 1


def test_a_request_is_looked_after_by_more_than_sixteen_messages() -> None:
    """Lambda stops a chain by which a function and its queue cause each other."""
    assert properties("WebsocketFunction")["RecursiveLoop"] == "Allow"


def test_posting_and_closing_are_allowed_on_connections_only() -> None:
    for _, statement in statements():
        if statement["Action"] == "execute-api:ManageConnections":
            for resource in listed(statement["Resource"]):
                assert re.search(
                    r"/v1/(POST|DELETE)/@connections/\*$", resource["Fn::Sub"]
                )


def test_every_function_has_a_role_of_its_own_and_no_other_policies() -> None:
    assert set(of_type("AWS::IAM::Role")) == {f"{name}Role" for name in FUNCTIONS}
    for name in FUNCTIONS:
        assert properties(f"{name}Function")["Role"] == {
            "Fn::GetAtt": [f"{name}Role", "Arn"]
        }
        assert "ManagedPolicyArns" not in properties(f"{name}Role")


def test_nobody_but_the_gateway_may_invoke_the_websocket_function() -> None:
    permissions = of_type("AWS::Lambda::Permission")
    assert len(permissions) == 3
    for permission in permissions.values():
        assert permission["Properties"]["Principal"] == "apigateway.amazonaws.com"
        assert permission["Properties"]["FunctionName"] == either(
            "Websocket", {"Fn::GetAtt": ["WebsocketFunction", "Arn"]}
        )
        assert "SourceArn" in permission["Properties"]


def test_a_function_is_told_only_variables_that_the_package_reads() -> None:
    known = {f"TAILRACE_{name.upper()}" for name in Settings.__dataclass_fields__}
    for name in FUNCTIONS:
        variables = properties(f"{name}Function")["Environment"]["Variables"]
        ours = {variable for variable in variables if variable.startswith("TAILRACE_")}
        assert ours
        assert ours <= known
    assert "TAILRACE_KEY_RING_ARN" not in json.dumps(properties("PublishFunction"))
    told = properties("FanoutFunction")["Environment"]["Variables"]
    assert one_of(told["TAILRACE_LOG_TABLE"]) == {"Ref": "Log"}
    assert "Fn::If" in told["TAILRACE_LOG_TABLE"], "it reads the log for chats only"


# --- the change feed --------------------------------------------------------------


def test_one_bad_record_cannot_block_the_change_feed() -> None:
    set_to = properties("FanoutFunctionChangeFeed")
    assert set_to["EventSourceArn"] == {"Fn::GetAtt": ["Log", "StreamArn"]}
    assert set_to["FunctionName"] == either("Fanout", {"Ref": "FanoutFunction"})
    assert set_to["StartingPosition"] == "TRIM_HORIZON"
    assert set_to["MaximumBatchingWindowInSeconds"] == 0
    assert set_to["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert set_to["BisectBatchOnFunctionError"] is True
    assert set_to["MaximumRetryAttempts"] == 3
    assert set_to["MaximumRecordAgeInSeconds"] == 60
    assert set_to["DestinationConfig"]["OnFailure"]["Destination"] == {
        "Fn::GetAtt": ["FeedFailures", "Arn"]
    }
    assert set_to["BatchSize"] == {"Ref": "FeedBatchSize"}
    assert set_to["ParallelizationFactor"] == {"Ref": "FeedParallelization"}


def test_the_change_feed_carries_records_and_no_removals() -> None:
    mapping = translated()["FanoutFunctionChangeFeed"]
    (rule,) = mapping["Properties"]["FilterCriteria"]["Filters"]
    condition, direct, feed = rule["Pattern"]["Fn::If"]
    assert condition == "FeedIsNet"
    # A removal has no new image; every record has a kind.
    assert json.loads(feed) == {
        "dynamodb": {"NewImage": {"kind": {"S": [{"exists": True}]}}}
    }
    assert json.loads(direct) == {
        "dynamodb": {"NewImage": {"kind": {"S": ["open", "end"]}}}
    }
    assert properties("Log")["StreamSpecification"] == {"StreamViewType": "NEW_IMAGE"}


# --- what is kept, and how long ---------------------------------------------------


@pytest.mark.parametrize("table", ["Log", "State"])
def test_a_table_costs_nothing_idle_and_forgets(table: str) -> None:
    assert properties(table)["BillingMode"] == "PAY_PER_REQUEST"
    assert properties(table)["TimeToLiveSpecification"] == {
        "AttributeName": "expires_at",
        "Enabled": True,
    }
    # No key of ours: AWS's own costs nothing and works across accounts.
    assert "SSESpecification" not in properties(table)


def test_backups_that_outlive_the_retention_are_off_by_default() -> None:
    assert properties("Log")["PointInTimeRecoverySpecification"] == {
        "PointInTimeRecoveryEnabled": {"Ref": "PointInTimeRecovery"}
    }
    assert source()["Parameters"]["PointInTimeRecovery"]["Default"] == "false"
    assert "PointInTimeRecoverySpecification" not in properties("State")


def test_nothing_outlives_the_stack() -> None:
    stateful = {
        name: resource
        for name, resource in translated().items()
        if resource["Type"] in STATEFUL
    }
    assert len(stateful) == 9
    for name, resource in stateful.items():
        assert resource["DeletionPolicy"] == "Delete", name
        assert resource["UpdateReplacePolicy"] == "Delete", name


def test_the_key_ring_is_generated_once_and_never_again() -> None:
    # Any change to this property makes CloudFormation generate the secret anew,
    # and every token in use dies. So this is what it was, for ever.
    assert properties("KeyRing")["GenerateSecretString"] == {
        "SecretStringTemplate": '{"current": "k1"}',
        "GenerateStringKey": "k1",
        "PasswordLength": 64,
        "ExcludePunctuation": True,
    }


# --- logs -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_logs_json_into_a_group_that_forgets(name: str) -> None:
    assert properties(f"{name}Function")["LoggingConfig"] == {
        "LogFormat": "JSON",
        "SystemLogLevel": "WARN",
        "ApplicationLogLevel": "INFO",
        "LogGroup": {"Ref": f"{name}Logs"},
    }
    assert properties(f"{name}Logs")["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_no_setting_makes_the_sdk_log_request_bodies() -> None:
    # Under DEBUG botocore logs what it sends: chunks, tokens, secrets.
    assert "DEBUG" not in source()["Parameters"]["LogLevel"]["AllowedValues"]


def test_the_stage_logs_no_frames_and_no_query_strings() -> None:
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["Properties"]["DefaultRouteSettings"]["DataTraceEnabled"] is False
    assert "AccessLogSettings" not in stage["Properties"]


# --- the socket -------------------------------------------------------------------


def test_the_socket_has_three_routes_to_one_function_and_a_limit() -> None:
    (api,) = of_type("AWS::ApiGatewayV2::Api").values()
    assert api["Properties"]["ProtocolType"] == "WEBSOCKET"
    assert api["Properties"]["RouteSelectionExpression"] == "$request.body.type"
    routes = of_type("AWS::ApiGatewayV2::Route").values()
    assert sorted(route["Properties"]["RouteKey"] for route in routes) == [
        "$connect",
        "$default",
        "$disconnect",
    ]
    uris = {
        json.dumps(integration["Properties"]["IntegrationUri"])
        for integration in of_type("AWS::ApiGatewayV2::Integration").values()
    }
    assert len(uris) == 1
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    assert stage["Properties"]["StageName"] == "v1"
    limits = stage["Properties"]["DefaultRouteSettings"]
    assert limits["ThrottlingBurstLimit"] == {"Ref": "FramesPerSecond"}
    assert limits["ThrottlingRateLimit"] == {"Ref": "FramesPerSecond"}


def test_an_answer_of_ten_seconds_fits_the_function_and_the_gateway() -> None:
    assert 15 <= properties("WebsocketFunction")["Timeout"] < 29


# --- SnapStart --------------------------------------------------------------------


def either(function: str, otherwise: Any) -> dict[str, Any]:
    """Return a function's snapshot where there is one, else the function."""
    return {"Fn::If": ["HasSnapStart", {"Ref": f"{function}Alias"}, otherwise]}


def fingerprint(function: str) -> str:
    """Return the hash of a function's code and of what the template sets for it."""
    settings = copy.deepcopy(source()["Resources"][f"{function}Function"]["Properties"])
    code = ROOT / settings.pop("CodeUri")
    hashed = hashlib.sha256()
    for part in (source()["Globals"]["Function"], settings):
        hashed.update(json.dumps(part, sort_keys=True).encode())
    for path in sorted(code.glob("*.py")):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:8]


def depends(value: Any, under: frozenset[str] = frozenset()) -> Iterator[Any]:
    """Return the parameters that a value is made of, and the conditions that choose
    it, each with the other conditions under which that is so."""
    if isinstance(value, list):
        for one in value:
            yield from depends(one, under)
    elif isinstance(value, dict):
        if "Fn::If" in value:
            condition, *branches = value["Fn::If"]
            yield condition, under
            yield from depends(branches, under | {condition})
        elif "Fn::Sub" in value:
            text, *given = listed(value["Fn::Sub"])
            for name in re.findall(r"\$\{(\w+)\}", text):
                yield from depends({"Ref": name}, under)
            yield from depends(given, under)
        elif "Ref" in value:
            if (name := value["Ref"]) in source()["Parameters"]:
                here = {one for one in under if asks(one) != {name}}
                yield name, frozenset(here)
        else:
            yield from depends(list(value.values()), under)


def asks(condition: str) -> set[str]:
    """Return the parameters that a condition asks for."""
    return {name for name, _ in depends(source()["Conditions"][condition])}


def changes(value: Any) -> set[Any]:
    """Return what a value changes with. A condition says nothing beside the parameter
    that it asks for; and a function that had no snapshot has no old one."""
    found = set(depends(value))
    names = {name for name, _ in found}
    return {
        (name, under)
        for name, under in found
        if name != "HasSnapStart"
        and not (name in source()["Conditions"] and asks(name) <= names)
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_snapshot_is_of_the_function_that_is_deployed(function: str) -> None:
    """CloudFormation publishes a version when its description changes. One that does
    not change with the function leaves its old snapshot in use, and one that changes
    without it makes the deployment fail."""
    version = source()["Resources"][f"{function}Version"]
    assert version["Condition"] == "HasSnapStart"
    text, named = version["Properties"]["Description"]["Fn::Sub"]
    assert text.split()[0] == fingerprint(function), "write this into the description"
    layer = {"Fn::Select": [7, {"Fn::Split": [":", {"Ref": "TailraceLayer"}]}]}
    assert named.pop("Layer") == layer
    assert source()["Globals"]["Function"]["Layers"] == [{"Ref": "TailraceLayer"}]
    described = {"Fn::Sub": [text.replace("${Layer}", "").replace("${Chats}", "")]}
    settings = source()["Resources"][f"{function}Function"]["Properties"]
    assert changes([described, named]) == changes(
        [source()["Globals"]["Function"], settings]
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_has_a_snapshot_only_where_it_is_asked_for(function: str) -> None:
    assert one_of(properties(f"{function}Function")["SnapStart"]) == {
        "ApplyOn": "PublishedVersions"
    }
    alias = translated()[f"{function}Alias"]
    assert alias["Condition"] == "HasSnapStart"
    assert alias["Properties"] == {
        "FunctionName": {"Ref": f"{function}Function"},
        "FunctionVersion": {"Fn::GetAtt": [f"{function}Version", "Version"]},
        "Name": "live",
    }
    # The old one goes with its replacement: it would be paid for.
    assert "UpdateReplacePolicy" not in translated()[f"{function}Version"]


def test_with_snapstart_all_that_starts_a_function_starts_its_snapshot() -> None:
    started = either("Websocket", {"Ref": "WebsocketFunction"})
    assert properties("RepairsMapping")["FunctionName"] == started
    started = either("Websocket", {"Fn::GetAtt": ["WebsocketFunction", "Arn"]})
    for integration in of_type("AWS::ApiGatewayV2::Integration").values():
        _, named = integration["Properties"]["IntegrationUri"]["Fn::Sub"]
        assert named == {"FunctionArn": started}
    for function in ("Publish", "Fanout"):
        name = f"{function}Function"
        told = {
            "Fn::If": ["HasSnapStart", {"Fn::Sub": f"${{{name}}}:live"}, {"Ref": name}]
        }
        assert source()["Outputs"][f"{name}Name"]["Value"] == told
    variables = properties("PublishFunction")["Environment"]["Variables"]
    assert one_of(variables["TAILRACE_FANOUT_FUNCTION"]) == told


# --- what another deployment replaces ---------------------------------------------

KEPT = {
    "Log": {
        "KeySchema": [
            {"AttributeName": "stream", "KeyType": "HASH"},
            {"AttributeName": "seq", "KeyType": "RANGE"},
        ]
    },
    "State": {
        "KeySchema": [
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ]
    },
    "KeyRing": {},
    "SocketApi": {"ProtocolType": "WEBSOCKET"},
    "SocketApiv1Stage": {"ApiId": {"Ref": "SocketApi"}, "StageName": "v1"},
    "WebsocketFunction": {"FunctionName": {"Fn::Sub": "${AWS::StackName}-websocket"}},
    "PublishFunction": {"FunctionName": {"Fn::Sub": "${AWS::StackName}-publish"}},
    "FanoutFunction": {"FunctionName": {"Fn::Sub": "${AWS::StackName}-fanout"}},
    "FanoutFunctionChangeFeed": {
        "EventSourceArn": {"Fn::GetAtt": ["Log", "StreamArn"]},
        "StartingPosition": "TRIM_HORIZON",
    },
    "PublishInvokePolicy": {
        "Description": "For producers that publish through the publish function"
    },
    "PublishInProcessPolicy": {
        "Description": (
            "For producers that write the log themselves, with the Python SDK"
        )
    },
    "FeedFailures": {},
}


def fixed(name: str) -> dict[str, Any]:
    """Return those properties of a resource that CloudFormation cannot change: it makes
    another resource where one differs, and deletes this."""
    resource = translated()[name]
    schemas = PROVIDER_SCHEMA_MANAGER
    schema = schemas.get_resource_schema("us-east-1", resource["Type"]).schema
    pointers = schema.get("createOnlyProperties", []) + schema.get(
        "conditionalCreateOnlyProperties", []
    )
    names = {pointer.split("/")[2] for pointer in pointers}
    return {one: value for one, value in resource["Properties"].items() if one in names}


def test_no_version_replaces_what_holds_data_or_is_known_elsewhere() -> None:
    """A policy that is replaced cannot be deleted while it is attached, and what it
    exports not be changed while it is imported. Nor may one of these be renamed here.
    Whoever must change this says in the CHANGELOG what becomes of what is there."""
    assert {name: fixed(name) for name in KEPT} == KEPT


def test_no_parameter_replaces_anything_but_a_snapshot_and_who_may_start_it() -> None:
    snapshots = {f"{function}Version" for function in FUNCTIONS}
    permissions = set(of_type("AWS::Lambda::Permission"))
    replaced = {name for name in translated() if set(depends(fixed(name)))}
    assert replaced == snapshots | permissions
    aliases = {f"{function}Alias" for function in FUNCTIONS}
    chats = {"Repairs", "RepairFailures", "RepairsMapping", "RepairFailuresAlarm"}
    comes_and_goes = {name for name, one in translated().items() if "Condition" in one}
    assert comes_and_goes == snapshots | aliases | chats


# --- parameters -------------------------------------------------------------------


def test_every_parameter_is_described_and_has_a_default_it_allows() -> None:
    for name, parameter in source()["Parameters"].items():
        assert parameter["Description"].strip(), name
        default = parameter["Default"]
        if "AllowedPattern" in parameter:
            assert re.fullmatch(parameter["AllowedPattern"], default), name
        if "AllowedValues" in parameter:
            assert default in parameter["AllowedValues"], name
        if "MinValue" in parameter:
            assert parameter["MinValue"] <= default <= parameter["MaxValue"], name


def test_a_parameter_is_emptied_as_it_is_documented() -> None:
    """`JobFunction=` is refused by sam, and the shell eats what quotes it can."""
    document = (ROOT / "docs" / "deploy.md").read_text()
    emptied: dict[str, str] = {}
    for given in re.findall(
        r'^ +make deploy PARAMETERS="(.*)"$', document, re.MULTILINE
    ):
        words = shlex.split(given.replace('\\"', '"'))
        emptied |= CfnParameterOverridesType().convert(words, None, None)
    assert emptied["JobFunction"] == ""
    assert emptied.keys() <= source()["Parameters"].keys()


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        ("*", True),
        ("https://app.example.com", True),
        ("https://app.example.com,http://localhost:5173", True),
        # What a page in an app or in an extension has.
        ("capacitor://localhost,tauri://localhost,chrome-extension://abcdef", True),
        # What browsers never send would let nobody in.
        ("https://App.example.com", False),
        ("HTTPS://app.example.com", False),
        ("", False),
        ("app.example.com", False),
        ("https://app.example.com/", False),
        ("https://*.example.com", False),
        ("https://a.example, https://b.example", False),
    ],
)
def test_origins_are_origins(origins: str, allowed: bool) -> None:
    pattern = source()["Parameters"]["AllowedOrigins"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, origins)) is allowed


def test_the_package_and_the_template_default_to_the_same() -> None:
    defaults = Settings()
    parameters = source()["Parameters"]
    assert parameters["RetentionHours"]["Default"] == defaults.retention_hours
    assert parameters["LeaseSeconds"]["Default"] == defaults.lease_seconds
    assert parameters["Delivery"]["Default"] == defaults.delivery
    assert parameters["PushInterval"]["Default"] == defaults.push_interval


def test_ten_alarms_watch_the_stack_and_one_more_its_chats() -> None:
    alarms = of_type("AWS::CloudWatch::Alarm")
    assert len([one for one in alarms.values() if "Condition" not in one]) == 10
    assert len(alarms) == 11
    watched = {alarm["Properties"]["MetricName"] for alarm in alarms.values()}
    assert watched == {
        "ApproximateNumberOfMessagesVisible",
        "Errors",
        "IteratorAge",
        "Throttles",
        "Unavailable",
        "WriteThrottleEvents",
    }
    assert properties("FeedLagAlarm")["Threshold"] == 5000


def test_what_aws_does_not_answer_rings_though_no_function_fails() -> None:
    alarm = properties("UnavailableAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("Tailrace", "Unavailable")
    # As Powertools names it, by the service's name in the functions' environment.
    service = {"Name": "service", "Value": {"Ref": "AWS::StackName"}}
    assert alarm["Dimensions"] == [service]
    variables = source()["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_SERVICE_NAME"] == service["Value"]
    assert variables["POWERTOOLS_METRICS_NAMESPACE"] == alarm["Namespace"]


def test_a_fan_out_that_fails_rings_when_it_gives_up() -> None:
    """What it then did in one of its retries, nobody needs to be called for."""
    rings = {
        alarm["Properties"]["Dimensions"][0]["Value"]["Ref"]
        for alarm in of_type("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["MetricName"] == "Errors"
    }
    assert rings == {"WebsocketFunction", "PublishFunction"}
    queue = properties("FeedFailuresAlarm")["Dimensions"][0]["Value"]
    assert queue == {"Fn::GetAtt": ["FeedFailures", "QueueName"]}


def test_what_a_table_refuses_rings() -> None:
    """But reads: whoever is refused one asks again, and what is late rings as such."""
    watched = [
        (alarm["Properties"]["MetricName"], alarm["Properties"]["Dimensions"])
        for alarm in of_type("AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["Namespace"] == "AWS/DynamoDB"
    ]
    assert sorted((metric, table["Value"]["Ref"]) for metric, (table,) in watched) == [
        ("WriteThrottleEvents", "Log"),
        ("WriteThrottleEvents", "State"),
    ]


def drawn() -> list[list[str]]:
    """Return the metrics of the dashboard."""
    body = json.loads(properties("Dashboard")["DashboardBody"]["Fn::Sub"])
    return [
        metric
        for widget in body["widgets"]
        for metric in spelt_out(widget["properties"]["metrics"])
    ]


def test_what_either_table_refuses_is_on_the_dashboard() -> None:
    for kind, table in itertools.product(("Read", "Write"), ("Log", "State")):
        metric = ["AWS/DynamoDB", f"{kind}ThrottleEvents", "TableName", f"${{{table}}}"]
        assert metric in drawn()


def test_what_is_refused_without_an_error_is_on_the_dashboard() -> None:
    refusals = [f"HandshakesRefused{status}" for status in (401, 403, 503)]
    for name in ("Unavailable", "JobsNotStarted", *refusals):
        assert ["Tailrace", name, "service", "${AWS::StackName}"] in drawn()


def test_stacks_of_one_name_in_two_regions_have_a_dashboard_each() -> None:
    name = properties("Dashboard")["DashboardName"]
    assert name == {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}


def spelt_out(metrics: list[list[Any]]) -> Iterator[list[str]]:
    """Return metrics without CloudWatch's "." and "...", which repeat what is above."""
    above: list[str] = []
    for metric in metrics:
        names = [name for name in metric if isinstance(name, str)]
        if names[0] == "...":
            names = above[: len(above) - len(names) + 1] + names[1:]
        above = [above[at] if name == "." else name for at, name in enumerate(names)]
        yield above


# --- what is locked ---------------------------------------------------------------


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9-]+)==([^ \\;]+)", path.read_text(), re.MULTILINE)
    return dict(found)


def test_the_layer_has_the_versions_that_the_tests_ran_with() -> None:
    everything = pins(ROOT / "requirements.lock")
    layer = pins(ROOT / "layers/tailrace/requirements.lock")
    assert set(layer) == {
        "aws-lambda-powertools",
        "jmespath",
        "pyjwt",
        "typing-extensions",
    }
    assert layer.items() <= everything.items()


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "layers/tailrace/requirements.lock"]
)
def test_a_lock_names_no_host(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def test_what_the_layer_leaves_out_the_runtime_brings() -> None:
    package = tomllib.loads((ROOT / "layers/tailrace/pyproject.toml").read_text())
    project = package["project"]
    needed = {
        re.split(r"[<>=]", requirement)[0]
        for requirement in project["dependencies"]
        + project["optional-dependencies"]["functions"]
    }
    layer = set(pins(ROOT / "layers/tailrace/requirements.lock"))
    assert needed - layer == {"boto3"}


# --- what is documented -----------------------------------------------------------


def test_the_longest_name_of_a_stack_is_documented() -> None:
    names = [
        properties(f"{function}Function")["FunctionName"] for function in FUNCTIONS
    ]
    added = max(
        len(name["Fn::Sub"].removeprefix("${AWS::StackName}")) for name in names
    )
    text = f"at most {64 - added} characters: a function's has 64"
    assert text in (ROOT / "docs" / "deploy.md").read_text()


def test_every_parameter_output_and_alarm_is_documented() -> None:
    document = (ROOT / "docs" / "deploy.md").read_text()
    for name, parameter in source()["Parameters"].items():
        default = f"`{parameter['Default']}`" if parameter["Default"] != "" else "–"
        assert f"| `{name}` | {default} |" in document
    for name in (*source()["Outputs"], *of_type("AWS::CloudWatch::Alarm")):
        assert f"`{name}`" in document
