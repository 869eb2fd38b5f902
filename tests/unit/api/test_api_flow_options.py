"""The member `flow` of a body: its form, and what reaches the request."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from airberg.api.ingest import parse
from airberg.errors import InvalidRequest, Problem
from airberg.plan.flow_request import FlowRequest, Notification
from airberg.plan.model import IngestRequest

BODY = {"name": "n", "source_name": "source-x", "source_config": {}, "schema_name": "shop", "mode": "append"}
FLOW: dict[str, Any] = {
    "parallelism": 4,
    "pool": "github api",
    "queue": "big",
    "priority": 50,
    "retries": 0,
    "retry_delay_s": 5,
    "timeout_s": 900,
    "deadline_s": 3600,
    "on_failure": [
        {"type": "slack", "connection": "slack_loads", "channel": "#loads"},
        {"type": "email", "to": ["ann@example.com", "bob@example.com", "ann@example.com"]},
        {"type": "webhook", "connection": "pager"},
    ],
    "cpu": "500m",
    "memory": "2Gi",
}


def flow(sent: Any) -> FlowRequest | None:
    """What becomes of the member."""
    return parse(json.dumps(BODY | {"flow": sent}).encode()).as_request("ann").flow


def problems(sent: Any) -> list[Problem]:
    """What is wrong with it."""
    with pytest.raises(InvalidRequest) as caught:
        flow(sent)
    return list(caught.value.problems)


def test_options_reach_the_request() -> None:
    """As they were sent, frozen; an address that is there twice is told once."""
    asked = flow(FLOW)
    assert asked == FlowRequest(
        parallelism=4,
        pool="github api",
        queue="big",
        priority=50,
        retries=0,
        retry_delay_s=5,
        timeout_s=900,
        deadline_s=3600,
        on_failure=(
            Notification(type="slack", connection="slack_loads", channel="#loads"),
            Notification(type="email", to=("ann@example.com", "bob@example.com")),
            Notification(type="webhook", connection="pager"),
        ),
        cpu="500m",
        memory="2Gi",
    )
    assert flow(msgspec.to_builtins(asked)) == asked, "what is shown can be sent back"


@pytest.mark.parametrize("nothing", [None, {}, dict.fromkeys(FLOW)])
def test_nothing_asked_is_nothing(nothing: Any) -> None:
    """It is all left to the deployment; an empty list of notifications is more than nothing."""
    assert flow(nothing) is None
    assert flow({"on_failure": []}) == FlowRequest(on_failure=())


def test_a_request_of_an_earlier_version_has_none() -> None:
    """Jobs that were stored before there were options."""
    stored = msgspec.to_builtins(parse(json.dumps(BODY).encode()).as_request("ann"))
    del stored["flow"]
    assert msgspec.convert(stored, IngestRequest).flow is None


WRONG = [
    (3, "", "wrong-type"),
    ({"parallelism": 0}, "/parallelism", "out-of-range"),
    ({"parallelism": 101}, "/parallelism", "out-of-range"),
    ({"parallelism": True}, "/parallelism", "wrong-type"),
    ({"parallelism": "2"}, "/parallelism", "wrong-type"),
    ({"priority": 10**30}, "/priority", "out-of-range"),
    ({"retries": -1}, "/retries", "out-of-range"),
    ({"retry_delay_s": 1.5}, "/retry_delay_s", "wrong-type"),
    ({"timeout_s": 0}, "/timeout_s", "out-of-range"),
    ({"deadline_s": 10**9}, "/deadline_s", "out-of-range"),
    ({"cpu": "many"}, "/cpu", "bad-quantity"),
    ({"cpu": 2}, "/cpu", "wrong-type"),
    ({"memory": "2GB"}, "/memory", "bad-quantity"),
    ({"memory": "9" * 31}, "/memory", "out-of-range"),
    ({"pool": ""}, "/pool", "bad-name"),
    ({"pool": " x"}, "/pool", "bad-name"),
    ({"pool": "a\nb"}, "/pool", "bad-name"),
    ({"pool": "x" * 201}, "/pool", "out-of-range"),
    ({"queue": "a,b"}, "/queue", "bad-name"),
    ({"on_failure": {}}, "/on_failure", "wrong-type"),
    ({"on_failure": [{"type": "pigeon"}]}, "/on_failure/0/type", "not-one-of"),
    ({"on_failure": [{}]}, "/on_failure/0/type", "required-field"),
    ({"on_failure": [{"type": "slack"}]}, "/on_failure/0", "required-field"),
    ({"on_failure": [{"type": "webhook"}]}, "/on_failure/0", "required-field"),
    ({"on_failure": [{"type": "email"}]}, "/on_failure/0", "required-field"),
    ({"on_failure": [{"type": "email", "to": []}]}, "/on_failure/0/to", "out-of-range"),
    ({"on_failure": [{"type": "email", "to": ["ann"]}]}, "/on_failure/0/to/0", "bad-address"),
    ({"on_failure": [{"type": "email", "to": ["a@b\nBcc: c@d"]}]}, "/on_failure/0/to/0", "bad-address"),
    (
        {"on_failure": [{"type": "email", "to": ["a@b.c"], "channel": "#x"}]},
        "/on_failure/0",
        "not-for-this-type",
    ),
    (
        {"on_failure": [{"type": "slack", "connection": "s", "channel": "a b"}]},
        "/on_failure/0/channel",
        "bad-channel",
    ),
    (
        {"on_failure": [{"type": "webhook", "connection": "a b"}]},
        "/on_failure/0/connection",
        "bad-connection",
    ),
    ({"on_failure": [{"type": "webhook", "connection": "p"}] * 21}, "/on_failure", "out-of-range"),
]


@pytest.mark.parametrize(("sent", "pointer", "code"), WRONG)
def test_what_is_wrong_is_named_by_its_place(sent: Any, pointer: str, code: str) -> None:
    """With a hint at what to do."""
    [found] = problems(sent)
    assert (found.pointer, found.code) == (f"/flow{pointer}", code)
    assert found.guidance


@pytest.mark.parametrize(
    "sent",
    [
        {"pool": "http://ann:hunter22@h/"},
        {"on_failure": [{"type": "webhook", "connection": "https://hooks.example.com/hunter22"}]},
        {"on_failure": [{"type": "slack", "connection": "s", "channel": "https://h/hunter22"}]},
        {"on_failure": [{"type": "email", "to": ["https://ann:hunter22@example.com"]}]},
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(sent: Any) -> None:
    """Secrets are in Airflow's connections; what was sent here may be one."""
    [found] = problems(sent)
    assert "hunter22" not in f"{found.message} {found.guidance}"


def test_a_misspelt_option_is_told_the_nearest() -> None:
    """Deep in the body too."""
    [option] = problems({"parallelsm": 2})
    assert (option.pointer, option.guidance) == ("/flow/parallelsm", "Did you mean `parallelism`?")
    [member] = problems({"on_failure": [{"type": "slack", "connection": "s", "chanel": "#x"}]})
    assert (member.pointer, member.guidance) == ("/flow/on_failure/0/chanel", "Did you mean `channel`?")
