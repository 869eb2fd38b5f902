"""Sources, their fields and their streams as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from airberg.api.views import Address
from airberg.sources.config_fields import ConfigField, config_fields
from airberg.sources.entry import ConnectorEntry, PythonFrom
from airberg.sources.launch import LaunchDescription


class SourceSummary(BaseModel):
    """A connector in the list."""

    name: str = Field(description="What `source_name` of an ingest is, `source-github`.")
    package_name: str = Field(description="Name on the package index; empty for other kinds of connectors.")
    display_name: str
    category: str = Field(description="One word, such as `finance`; `own`: declared by this deployment.")
    description: str
    version: str = Field(description="Exact version; `local`: a program without one.")
    language: str | None = Field(
        description="What it is written in: `python`, `manifest-only`, `java`, …; null: not known."
    )
    installed: bool = Field(description="Whether it is ready to be asked.")


class ConfigFieldView(BaseModel):
    """A field of a configuration."""

    name: str = Field(description="The same as `path`, as clients of the sibling API know it.")
    path: str = Field(description="Dotted; `[]` stands for each item of a list.")
    title: str
    type: str
    required: bool = Field(description="Where the object that it is in is given.")
    secret: bool
    description: str
    default: Any = None
    enum: list[Any] | None = None
    when: str | None = Field(None, description="With which alternative it applies.")


class SourceDetails(SourceSummary):
    """A connector with what its configuration needs; `spec` is null while it is not installed."""

    supported_python: str = Field(description="Interpreters that the package runs on (PEP 440).")
    supported_python_from: PythonFrom | None = Field(
        description="How that is known. `package`: this version says so, or this deployment does; "
        "`other-release`: another release does; `assumed`: neither is known. Null: no package."
    )
    documentation_url: Address | None
    tested: bool = Field(description="Whether this version was seen to install when Airberg was made.")
    versions: list[str] = Field(description="Known versions; first the one that new jobs get.")
    config_fields: list[ConfigFieldView]
    config_template: dict[str, Any] | None = Field(
        None, description="Always null: send the configuration nested as the paths say."
    )
    spec: dict[str, Any] | None = Field(description="JSON schema of the configuration.")


class CheckView(BaseModel):
    """The connector's verdict about a configuration."""

    succeeded: bool
    message: str | None = Field(description="The connector's own, without secrets, if it did not succeed.")
    source_name: str
    version: str
    config_renewed: bool = Field(
        description="The source replaced a token. For some minutes the service remembers the new one and "
        "uses it whenever you send this configuration: create the job now."
    )


class FoundStream(BaseModel):
    """A stream that can be read."""

    name: str
    namespace: str | None
    json_schema: dict[str, Any]
    sync_modes: list[str] = Field(description="`full_refresh`, `incremental`.")
    primary_key: list[list[str]] = Field(description="Paths of the columns; empty: it has none.")
    cursor_field: list[str] = Field(description="Path of the column that shows what is new; empty: none.")
    source_defined_cursor: bool = Field(description="The source has chosen the cursor.")


class DiscoverView(BaseModel):
    """What can be read with a configuration."""

    source_name: str
    version: str
    discovered_at: datetime
    config_renewed: bool = Field(description="See the check.")
    streams: list[FoundStream]


def source_summary(entry: ConnectorEntry, launch: LaunchDescription | None) -> SourceSummary:
    """A connector in the list."""
    return SourceSummary(
        name=entry.name,
        package_name=entry.package,
        display_name=entry.title,
        category=entry.category,
        description=entry.description,
        version=entry.known_version,
        language=entry.language or None,
        installed=launch is not None,
    )


def source_details(
    entry: ConnectorEntry, versions: list[str], launch: LaunchDescription | None
) -> SourceDetails:
    """A connector with its fields, when it is installed."""
    return SourceDetails(
        **source_summary(entry, launch).model_dump(),
        supported_python=entry.python if entry.package else "",
        supported_python_from=entry.python_from if entry.package else None,
        documentation_url=entry.docs or None,
        tested=entry.tested,
        versions=versions,
        config_fields=[_field_view(field) for field in config_fields(launch.spec)] if launch else [],
        spec=launch.spec if launch else None,
    )


def _field_view(field: ConfigField) -> ConfigFieldView:
    return ConfigFieldView(
        name=field.path,
        path=field.path,
        title=field.title,
        type=field.type,
        required=field.required,
        secret=field.secret,
        description=field.description,
        default=field.default,
        enum=field.enum,
        when=field.when,
    )


def found_stream(stream: dict[str, Any]) -> FoundStream:
    """An `AirbyteStream` as shown; what a connector leaves out or writes in a strange form is empty."""
    return FoundStream(
        name=str(stream.get("name", "")),
        namespace=stream.get("namespace") or None,
        json_schema=_object(stream.get("json_schema")),
        sync_modes=_texts(stream.get("supported_sync_modes")),
        primary_key=[_texts(path) for path in _list(stream.get("source_defined_primary_key"))],
        cursor_field=_texts(stream.get("default_cursor_field")),
        source_defined_cursor=stream.get("source_defined_cursor") is True,
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> list[str]:
    return [item for item in _list(value) if isinstance(item, str)]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
