"""People are told by Airflow's own notifiers for Slack and e-mail, for `make test-notifiers`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.mail_listener import mail_server
from support.pages import ROOT
from support.webhook_listener import listening

SECRET = "hunter22hunter22"
NAME = '{{ 7*7 }} {{ conn.slack.password }} <!channel> & "x"'
SUBJECT = ["job-1", NAME, "airberg_job-1", "http://a/dags/f"]
TEXT = 'Airberg: a run of "{{ 7*7 }} {{ conn.slack.password }} &lt;!channel&gt; &amp; "x"" failed'
Tell = Callable[..., str]


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """Tells a notice to some, with connections in the environment; returns what was logged."""
    if "NOTIFIER_TESTS" not in os.environ:
        pytest.skip("Airflow's notifiers: not part of `make test`; `make test-notifiers` runs these tests")

    def run(*notifications: dict[str, Any], **connections: dict[str, Any]) -> str:
        variables = {f"AIRFLOW_CONN_{n.upper()}": json.dumps(c) for n, c in connections.items()}
        asked = {"notifications": notifications, "subject": SUBJECT, "run_id": "manual__1+1"}
        ran = subprocess.run(
            [ROOT / ".build" / "notifiers" / "bin" / "python", ROOT / "tests/support/notifiers_child.py"],
            input=json.dumps(asked),
            env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
            | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert SECRET not in ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    return run


def test_slack_is_told_in_a_channel(tell: Tell) -> None:
    """By the API, with the token of the connection; a name is neither template nor markup."""
    with listening() as slack:
        extra = {"base_url": f"http://127.0.0.1:{slack.port}/"}
        log = tell(
            {"type": "slack", "connection": "slack", "channel": "#loads"},
            slack={"conn_type": "slack", "password": SECRET, "extra": extra},
        )
    [(path, headers, body)] = slack.posts
    assert (path, headers["Authorization"]) == ("/chat.postMessage", f"Bearer {SECRET}"), log
    assert body["channel"] == "#loads"
    title, about, page = body["text"].splitlines()
    assert (title, about) == (TEXT, "Job job-1, run manual__1+1, state failed.")
    assert page == "http://a/dags/f/runs/manual__1%2B1"


def test_slack_is_told_by_an_incoming_webhook(tell: Tell) -> None:
    """Without a channel: the webhook has one. What is after it in the list is told as well."""
    with listening() as slack:
        host = f"http://127.0.0.1:{slack.port}/services"
        log = tell(
            {"type": "slack", "connection": "nowhere"},
            {"type": "slack", "connection": "hook"},
            hook={"conn_type": "slackwebhook", "host": host, "password": f"T00/{SECRET}"},
        )
    [(path, _, body)] = slack.posts
    assert path == f"/services/T00/{SECRET}"
    assert body["text"].startswith(TEXT)
    assert "AirflowNotFoundException" in log


def test_people_are_told_by_mail(tell: Tell) -> None:
    """From the connection's address; the name is no template in the subject, and no markup in the page."""
    with mail_server() as mailbox:
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airberg@example.com"}
        tell(
            {"type": "email", "to": ["ann@example.com", "bob@example.com"]},
            smtp_default={"conn_type": "smtp", "host": "127.0.0.1", "port": mailbox.port, "extra": extra},
        )
    [(recipients, mail)] = mailbox.mails
    assert recipients == ["ann@example.com", "bob@example.com"]
    assert mail["From"] == "airberg@example.com"
    assert NAME in mail["Subject"]
    page = mail.get_body(("html",))
    assert page is not None
    assert "{{ 7*7 }} {{ conn.slack.password }} &lt;!channel&gt; &amp; &quot;x&quot;" in page.get_content()
