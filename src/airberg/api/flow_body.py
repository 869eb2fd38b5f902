"""The member `flow` of a body: options of the job's flow in Airflow.

Airflow knows its pools and connections; here only their names are looked at. A name that cannot be one is
refused without being repeated: an address with a secret may stand in its place.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator
from pydantic_core import PydanticCustomError

from airberg.flows.kubernetes_settings import quantity_problem
from airberg.plan.flow_request import FlowRequest, Notification, NotificationType

MAX_PARALLELISM: Final = 100
MAX_PRIORITY: Final = 1_000
MAX_RETRIES: Final = 100
MAX_DELAY_S: Final = 24 * 3600
MAX_DURATION_S: Final = 30 * 24 * 3600
CONNECTION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
CHANNEL: Final = re.compile(r"#?\w[\w.-]*")
ADDRESS: Final = re.compile(r"[^\s@,;:<>(){}\"/\\]+@[^\s@,;:<>(){}\"/\\]+")
"""No braces: Airflow's notifiers render what they are given as templates."""
_OF_TYPES: Final = {"connection": ("slack", "email", "webhook"), "channel": ("slack",), "to": ("email",)}
_NEEDED: Final = {"slack": "connection", "email": "to", "webhook": "connection"}


def _reject(code: str, message: str, guidance: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": message, "guidance": guidance})


def _plain(value: str) -> str:
    """The name of a pool or queue. Workers of Celery are given queues in a list with commas."""
    if value != value.strip() or not value or not value.isprintable() or "," in value or "://" in value:
        raise _reject(
            "bad-name",
            "This is not the name of a pool or queue.",
            "Give its name as Airflow has it: printable, without commas, with no blank at either end.",
        )
    return value


def _connection(value: str) -> str:
    if not CONNECTION.fullmatch(value):
        raise _reject(
            "bad-connection",
            "This is not the id of a connection of Airflow.",
            "Make the connection in Airflow, with what is secret in it, and give its id here.",
        )
    return value


def _channel(value: str) -> str:
    if not CHANNEL.fullmatch(value):
        raise _reject("bad-channel", "This is not a channel.", "Give its name, such as `#loads`, or its id.")
    return value


def _address(value: str) -> str:
    if not ADDRESS.fullmatch(value):
        raise _reject("bad-address", "This is not an e-mail address.", "Write it like ann@example.com.")
    return value


def _quantity(value: str) -> str:
    if quantity_problem(value):
        raise _reject(
            "bad-quantity",
            "This is not an amount of processors or memory.",
            "Write it as Kubernetes does: `500m` or `2` for processors, `512Mi` or `2Gi` for memory.",
        )
    return value


Name = Annotated[str, Field(max_length=200), AfterValidator(_plain)]
Connection = Annotated[str, Field(max_length=200), AfterValidator(_connection)]
Quantity = Annotated[str, Field(max_length=30), AfterValidator(_quantity)]
Channel = Annotated[str, Field(max_length=100), AfterValidator(_channel)]
Address = Annotated[str, Field(max_length=320), AfterValidator(_address)]


class NotificationBody(BaseModel):
    """Who is told of a failure: by Airflow's own notifiers, or by a POST to a webhook."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    type: NotificationType
    connection: Connection | None = Field(
        None,
        description="Id of a connection of Airflow, where the secret is; `email` has `smtp_default` without.",
        examples=["slack_loads"],
    )
    channel: Channel | None = Field(
        None,
        description="For slack: the channel, with a connection of type Slack API; without it that of the "
        "connection's incoming webhook.",
        examples=["#loads"],
    )
    to: Annotated[list[Address], Field(min_length=1, max_length=20)] | None = Field(
        None, description="For email: the addresses.", examples=[["ann@example.com"]]
    )

    @model_validator(mode="after")
    def _of_its_type(self) -> NotificationBody:
        """What would be ignored is refused, and what is needed is there."""
        for name, types in _OF_TYPES.items():
            if getattr(self, name) is not None and self.type not in types:
                raise _reject(
                    "not-for-this-type",
                    f"`{name}` is for {' and '.join(types)}, not for {self.type}.",
                    f"Leave `{name}` out, or change `type`.",
                )
        needed = _NEEDED[self.type]
        if getattr(self, needed) is None:
            raise _reject("required-field", f"`{needed}` is missing, which {self.type} needs.", "Add it.")
        return self

    def as_notification(self) -> Notification:
        """The frozen value."""
        return Notification(
            type=self.type,
            connection=self.connection,
            channel=self.channel,
            to=None if self.to is None else tuple(dict.fromkeys(self.to)),
        )


class FlowBody(BaseModel):
    """How the flow of a job is run. What is left out or null, the deployment decides."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    parallelism: Annotated[StrictInt, Field(ge=1, le=MAX_PARALLELISM)] | None = Field(
        None, description="Groups of streams that are synced at once, in tasks of their own; default 1."
    )
    pool: Name | None = Field(
        None, description="Airflow's pool for its tasks; default: that of the source, then the deployment's."
    )
    queue: Name | None = Field(
        None, description="Queue for its tasks, with executors that have queues; default as for pools."
    )
    priority: Annotated[StrictInt, Field(ge=1, le=MAX_PRIORITY)] | None = Field(
        None, description="Where slots are scarce, tasks of a higher priority start first; default 10."
    )
    retries: Annotated[StrictInt, Field(ge=0, le=MAX_RETRIES)] | None = Field(
        None, description="How often a task that failed is tried again, if that can help; default 2."
    )
    retry_delay_s: Annotated[StrictInt, Field(ge=0, le=MAX_DELAY_S)] | None = Field(
        None, description="Seconds before the first of them, twice as many before each next; default 60."
    )
    timeout_s: Annotated[StrictInt, Field(ge=1, le=MAX_DURATION_S)] | None = Field(
        None, description="Seconds that one attempt to sync may take; default 21600."
    )
    deadline_s: Annotated[StrictInt, Field(ge=1, le=MAX_DURATION_S)] | None = Field(
        None, description="A run that has not ended so many seconds after it was due is told of."
    )
    on_failure: Annotated[list[NotificationBody], Field(max_length=20)] | None = Field(
        None,
        description="Who is told of a run that failed; an empty list: nobody; default: the deployment's.",
        examples=[[{"type": "slack", "connection": "slack_loads", "channel": "#loads"}]],
    )

    cpu: Quantity | None = Field(
        None,
        description="Processors that a pod of its tasks asks for, where tasks run in pods.",
        examples=["500m"],
    )
    memory: Quantity | None = Field(
        None, description="Memory that such a pod asks for, and gets at most.", examples=["2Gi"]
    )

    def as_flow_request(self) -> FlowRequest | None:
        """The frozen value; None when nothing is asked for."""
        asked: dict[str, Any] = {name: getattr(self, name) for name in FlowRequest.__struct_fields__}
        if self.on_failure is not None:
            asked["on_failure"] = tuple(n.as_notification() for n in self.on_failure)
        request = FlowRequest(**asked)
        return None if request == FlowRequest() else request
