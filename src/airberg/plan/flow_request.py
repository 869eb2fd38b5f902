"""What a job asks of its flow: how it is run, and who is told when it fails."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

NotificationType: TypeAlias = Literal["slack", "email", "webhook"]


class Notification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who is told of a failure, and by which of Airflow's connections; never an address with a secret.

    Attributes:
        connection: Id of a connection of Airflow; None, for e-mail alone: `smtp_default`.
        channel: Of Slack; None: that of the connection's webhook.
        to: Addresses of e-mail.
    """

    type: NotificationType
    connection: str | None = None
    channel: str | None = None
    to: tuple[str, ...] | None = None


class FlowRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Options of a job's flow. None leaves each to the deployment, or to what new jobs get.

    Attributes:
        parallelism: Groups of streams that are synced at once; with 1 the flow has one task `sync`.
        pool: Airflow's pool that all tasks of the flow take a slot of.
        queue: Where Airflow's executor puts them, if it has queues.
        priority: Tasks of a higher one start first where slots are scarce.
        retries: How often a failed task is tried again, unless that is of no use.
        retry_delay_s: Seconds before the first of them; each next one waits twice as long.
        timeout_s: Seconds that one attempt may take.
        deadline_s: Seconds after which a run that has not ended is told of.
        on_failure: Who is told of a run that failed; empty: nobody.
        cpu: Processors that a pod of its tasks asks for, as Kubernetes writes them.
        memory: Memory that such a pod asks for, and gets at most.
    """

    parallelism: int | None = None
    pool: str | None = None
    queue: str | None = None
    priority: int | None = None
    retries: int | None = None
    retry_delay_s: int | None = None
    timeout_s: int | None = None
    deadline_s: int | None = None
    on_failure: tuple[Notification, ...] | None = None
    cpu: str | None = None
    memory: str | None = None
