"""Tells people of runs that failed, or are late: by Airflow's own notifiers, and by a POST to a webhook.

Who is told stands in the flow's spec, with ids of Airflow's connections; what is in a connection is read when
it is needed, and never logged. Nothing here fails anything: a notice that does not arrive is an error in the
log of the dag-processor (or, of a run that is late, of the callback).
"""

from __future__ import annotations

import asyncio
import html
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from airberg_airflow.webhook import WebhookError, post, target

log = logging.getLogger(__name__)

FAILED, LATE = "failed", "late"
PROVIDERS = {"slack": "slack", "email": "smtp"}
"""Type of a notification → Airflow's provider that has the notifier."""
SLACK_TIMEOUT_S = 10
_ENDED = ("success", "failed")


class Subject(NamedTuple):
    """What a notice is about: ids, a name, an address. All of it is in the flow's spec.

    Attributes:
        flow_url: Page of the flow, where the service knows it.
    """

    job_id: str
    job_name: str
    flow_id: str
    flow_url: str | None


class Notice(NamedTuple):
    """A notice about one run of a flow."""

    event: str
    subject: Subject
    run_id: str
    state: str

    @property
    def run_url(self) -> str | None:
        """Page of the run."""
        if self.subject.flow_url is None:
            return None
        return f"{self.subject.flow_url}/runs/{quote(self.run_id, safe='')}"

    @property
    def title(self) -> str:
        """One line."""
        happened = "failed" if self.event == FAILED else "has not ended in time"
        return f'Airberg: a run of "{self.subject.job_name}" {happened}'

    def body(self) -> dict[str, str | None]:
        """For a webhook."""
        return {
            "event": self.event,
            "job_id": self.subject.job_id,
            "job_name": self.subject.job_name,
            "flow_id": self.subject.flow_id,
            "flow_url": self.subject.flow_url,
            "run_id": self.run_id,
            "run_url": self.run_url,
            "state": self.state,
        }

    def slack_text(self) -> str:
        """In Slack's markup, in which a name could otherwise call everybody in (`<!channel>`)."""
        return html.escape(self._text(), quote=False)

    def email_html(self) -> str:
        """As a page."""
        return "".join(f"<p>{html.escape(line)}</p>" for line in self._text().splitlines())

    def _text(self) -> str:
        about = [f"Job {self.subject.job_id}, run {self.run_id}, state {self.state}."]
        return "\n".join([self.title, *about, *filter(None, [self.run_url])])


class FailureNotices:
    """A flow's `on_failure_callback`: Airflow's dag-processor calls it once for a run that has failed."""

    def __init__(self, subject: Subject, notifications: Sequence[Mapping[str, Any]]) -> None:
        self._subject = subject
        self._notifications = notifications

    def __call__(self, context: Mapping[str, Any]) -> None:
        """Tell everybody; the context has more of the run where one of its tasks failed."""
        run_id = context.get("run_id") or context["dag_run"].run_id
        tell(self._notifications, Notice(FAILED, self._subject, str(run_id), "failed"))


async def tell_late(
    *,
    subject: Sequence[str],
    notifications: Sequence[Mapping[str, Any]],
    context: Any,  # noqa: ANN401 - Airflow's
) -> None:
    """The callback of a deadline, which Airflow's triggerer awaits: tell everybody of a run that is late.

    Airflow keeps the deadline of a run that failed; there is nothing left to tell of that.
    """
    run = context["dag_run"]
    if run["state"] in _ENDED:
        log.info("the run %s has ended as %s", run["dag_run_id"], run["state"])
        return
    notice = Notice(LATE, Subject(*subject), run["dag_run_id"], run["state"])
    await asyncio.to_thread(tell, notifications, notice)


def tell(notifications: Sequence[Mapping[str, Any]], notice: Notice) -> None:
    """Tell everybody. One that cannot be told does not keep the others from it."""
    log.warning("%s (%s)", notice.title, notice.run_id)
    for one in notifications:
        try:
            _WAYS[one["type"]](one, notice)
        except WebhookError as e:
            log.error("the connection %s was not told: %s", one.get("connection"), e)
        except ModuleNotFoundError as e:
            log.error("nobody is told by %s: %s", one.get("type"), missing([one]) or f"no module {e.name}")
        except Exception as e:  # noqa: BLE001 - whatever notifiers raise; it may have an address with a secret in it
            log.error("notice by %s failed: %s", one.get("type"), type(e).__name__)
        else:
            log.info("notice by %s is sent", one["type"])


def missing(notifications: Sequence[Mapping[str, Any]]) -> str | None:
    """What Airflow's environment lacks for these, as a sentence."""
    wanted = sorted({PROVIDERS[str(n["type"])] for n in notifications if n.get("type") in PROVIDERS})
    lacking = [name for name in wanted if not _is_there(f"airflow.providers.{name}")]
    if not lacking:
        return None
    packages = ", ".join(f"apache-airflow-providers-{name}" for name in lacking)
    return f"Airflow's environment lacks {packages}."


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


# ---- the ways ----------------------------------------------------------------------------------------------
#
# Notifiers render all that they are given as templates. They get names of variables and not the texts: the
# name of a job must not be a template that reads a connection. The prefix keeps them apart from the names of
# the notifiers' own fields, which they add to the variables.


def _by_slack(one: Mapping[str, Any], notice: Notice) -> None:
    variables = {
        "airberg_text": notice.slack_text(),
        "airberg_connection": one["connection"],
        "airberg_channel": one.get("channel"),
    }
    connection, common = (
        "{{ airberg_connection }}",
        {"text": "{{ airberg_text }}", "timeout": SLACK_TIMEOUT_S},
    )
    if one.get("channel"):
        from airflow.providers.slack.notifications.slack import SlackNotifier

        SlackNotifier(slack_conn_id=connection, channel="{{ airberg_channel }}", **common)(variables)
    else:
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        SlackWebhookNotifier(slack_webhook_conn_id=connection, **common)(variables)


def _by_email(one: Mapping[str, Any], notice: Notice) -> None:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    variables = {f"airberg_to_{number}": address for number, address in enumerate(one["to"])}
    SmtpNotifier(
        smtp_conn_id="{{ airberg_connection }}",
        to=[f"{{{{ {name} }}}}" for name in variables],
        subject="{{ airberg_title }}",
        html_content="{{ airberg_html }}",
    )(
        variables
        | {
            "airberg_connection": one.get("connection") or "smtp_default",
            "airberg_title": notice.title,
            "airberg_html": notice.email_html(),
        }
    )


def _by_webhook(one: Mapping[str, Any], notice: Notice) -> None:
    from airflow.sdk import Connection

    post(target(Connection.get(one["connection"])), notice.body())


_WAYS = {"slack": _by_slack, "email": _by_email, "webhook": _by_webhook}
