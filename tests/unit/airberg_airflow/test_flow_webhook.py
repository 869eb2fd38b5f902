"""A POST to the address of a connection: where it goes, with what, and what becomes of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from airberg_airflow.webhook import Target, WebhookError, post, target
from support.free_ports import free_ports
from support.webhook_listener import Webhook, listening

SECRET = "hunter22hunter22"


@dataclass
class Connection:
    """A connection as Airflow's SDK gives it."""

    conn_type: str = "http"
    host: str | None = None
    schema: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = None
    extra_dejson: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook."""
    with listening() as hook:
        yield hook


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (Connection(host="h.example"), "http://h.example/"),
        (Connection(host="h.example", schema="https", port=444), "https://h.example:444/"),
        (Connection(host="https://h.example/a/b?c=d"), "https://h.example/a/b?c=d"),
        (Connection(host="https://h.example:1", port=2), "https://h.example:1/"),
        (Connection(host="h.example/a", schema="https"), "https://h.example/a"),
        (Connection(host="http://[::1]/x", port=5), "http://[::1]:5/x"),
    ],
)
def test_the_address_is_that_of_the_connection(connection: Connection, url: str) -> None:
    """In the forms that Airflow's HTTP hook takes."""
    assert target(connection) == Target(url, {})


def test_login_and_extra_become_headers() -> None:
    """Basic authentication; of the extra all texts that are not options of the hook."""
    extra = {"X-Key": "k", "timeout": "3", "verify": False, "proxies": {"a": "b"}, "number": 3}
    found = target(Connection(host="h", login="ann", password=SECRET, extra_dejson=extra))
    pair = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    assert found.headers == {"X-Key": "k", "Authorization": f"Basic {pair}"}


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        (Connection(conn_type="postgres", host="db", login="u", password=SECRET), "type HTTP"),
        (Connection(), "no address"),
        (Connection(host="ftp://h"), "no address"),
        (Connection(host="file:///etc/passwd"), "no address"),
        (Connection(host="http://h:99999"), "no address"),
        (Connection(host=f"https://ann:{SECRET}@h"), "no address"),
        (Connection(host="https://[::1"), "no address"),
    ],
)
def test_a_connection_of_something_else_is_not_posted_to(connection: Connection, reason: str) -> None:
    """Its password is for another server; and nothing of it is in the text of the error."""
    with pytest.raises(WebhookError, match=reason) as caught:
        target(connection)
    assert SECRET not in str(caught.value)


def test_a_body_arrives_once(webhook: Webhook) -> None:
    """With its headers, whatever proxy the environment names."""
    post(Target(f"http://127.0.0.1:{webhook.port}/a?b=c", {"X-Key": "k"}), {"event": "failed"})
    [(path, headers, body)] = webhook.posts
    assert (path, headers["X-Key"], body) == ("/a?b=c", "k", {"event": "failed"})
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("first", [500, 503, 0])
def test_it_is_posted_again_when_there_was_no_answer(webhook: Webhook, first: int) -> None:
    """Once more, as there is no telling whether it was taken."""
    webhook.answers = [first]
    post(Target(f"http://127.0.0.1:{webhook.port}/", {}), {})
    assert len(webhook.posts) == 2


@pytest.mark.parametrize(("answers", "posts", "reason"), [([404], 1, "404"), ([500, 502], 2, "502")])
def test_a_refusal_is_told(webhook: Webhook, answers: list[int], posts: int, reason: str) -> None:
    """By its status; what is wrong with the request is not sent twice."""
    webhook.answers = answers
    with pytest.raises(WebhookError, match=reason):
        post(Target(f"http://127.0.0.1:{webhook.port}/{SECRET}", {}), {})
    assert len(webhook.posts) == posts


def test_a_redirect_is_not_followed(webhook: Webhook) -> None:
    """It would take the headers, and what is secret in them, to another server."""
    with listening() as other:
        webhook.answers, webhook.location = [307], f"http://127.0.0.1:{other.port}/"
        with pytest.raises(WebhookError, match="307"):
            post(Target(f"http://127.0.0.1:{webhook.port}/", {"Authorization": SECRET}), {})
        assert other.posts == []


@pytest.mark.parametrize(
    "to",
    [
        Target(f"http://127.0.0.1:{free_ports(1)[0]}/{SECRET}", {}),
        Target(f"http://nowhere.invalid/{SECRET}", {}),
        Target("http://127.0.0.1:1/", {"X-Key": f"{SECRET}\nX-More: 1"}),
    ],
    ids=["nobody", "unknown", "header"],
)
def test_an_error_has_no_address_and_no_header(to: Target) -> None:
    """There may be a secret in either."""
    with pytest.raises(WebhookError) as caught:
        post(to, {}, timeout_s=2)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"
