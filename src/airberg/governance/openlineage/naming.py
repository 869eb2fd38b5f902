"""Names of datasets by OpenLineage's naming convention, so that lineage of several tools joins.

https://openlineage.io/docs/spec/naming: the namespace says where a data source is, the name what it is
called there. The convention has no row for Iceberg; OpenLineage's own Spark integration names an Iceberg
table by its location, as any dataset of that storage, and adds its name in the catalog as a symlink. Here
it is done likewise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from airberg.governance.sources import first_text, source_platform
from airberg.plan.model import StreamPlan

_BUCKETS = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_DATABASE = ("database", "db", "db_name", "database_name", "dbname")
_SCHEMA = ("schema", "default_schema", "schema_name")


class DatasetName(NamedTuple):
    """What OpenLineage knows a dataset by."""

    namespace: str
    name: str


class _Server(NamedTuple):
    """How tables of a kind of server are named.

    Attributes:
        scheme: Of the namespace.
        port: Where it listens, when the configuration does not say.
        schemas: Names have a schema between database and table.
    """

    scheme: str
    port: int
    schemas: bool


_SERVERS = {
    "clickhouse": _Server("clickhouse", 8123, False),
    "db2": _Server("db2", 50000, True),
    "mssql": _Server("sqlserver", 1433, True),
    "mysql": _Server("mysql", 3306, False),
    "oracle": _Server("oracle", 1521, True),
    "postgres": _Server("postgres", 5432, True),
    "teradata": _Server("teradata", 1025, False),
}
"""By DataHub's name of the platform. Of others too little is in a connector's configuration."""
_ORACLE = ("service_name", "sid")


def source_dataset(source_name: str, stream: StreamPlan, config: Mapping[str, object]) -> DatasetName:
    """The name of a source stream: its table where the connector reads one, else `airbyte://<connector>`.

    Args:
        source_name: The connector.
        stream: Its namespace is the schema, or the database where there are no schemas.
        config: The job's public configuration; only names of servers, databases and schemas are read.
    """
    platform = source_platform(source_name)
    found = None
    if (server := _SERVERS.get(platform)) is not None:
        found = _table_of_server(server, stream, config)
    elif platform == "snowflake":
        found = _snowflake(stream, config)
    elif platform == "bigquery":
        found = _bigquery(stream, config)
    name = f"{stream.namespace}.{stream.name}" if stream.namespace else stream.name
    return found or DatasetName(f"airbyte://{source_name}", name)


def _table_of_server(server: _Server, stream: StreamPlan, config: Mapping[str, object]) -> DatasetName | None:
    host = first_text(config, ("host",))
    if host is None or not re.fullmatch(r"[\w.-]+", host):
        return None
    given = config.get("port")
    port = given if isinstance(given, int) and 0 < given < 65536 else server.port
    database = first_text(config, _ORACLE if server.scheme == "oracle" else _DATABASE)
    schema = stream.namespace or first_text(config, _SCHEMA)
    parts = [database, schema] if server.schemas else [stream.namespace or database]
    if not all(parts):
        return None
    return DatasetName(f"{server.scheme}://{host}:{port}", ".".join([*filter(None, parts), stream.name]))


def _snowflake(stream: StreamPlan, config: Mapping[str, object]) -> DatasetName | None:
    host = first_text(config, ("host",))
    database = first_text(config, _DATABASE)
    schema = stream.namespace or first_text(config, _SCHEMA)
    account = (host or "").removesuffix(".snowflakecomputing.com")
    if not (account and database and schema):
        return None
    return DatasetName(f"snowflake://{account}", f"{database}.{schema}.{stream.name}")


def _bigquery(stream: StreamPlan, config: Mapping[str, object]) -> DatasetName | None:
    project = first_text(config, ("project_id", "project"))
    dataset = stream.namespace or first_text(config, ("dataset_id", "dataset"))
    return DatasetName("bigquery", f"{project}.{dataset}.{stream.name}") if project and dataset else None


def table_dataset(location: str) -> DatasetName:
    """The name of a table by its location, as any dataset of that storage.

    Buckets (`s3://bucket` and `warehouse/sales/customers`) have no leading slash in names, paths of file
    systems have (`file` and `/warehouse/sales/customers`).
    """
    parts = urlsplit(location)
    path = unquote(parts.path).rstrip("/")
    scheme = _BUCKETS.get(parts.scheme, parts.scheme)
    if scheme in ("", "file"):
        host = parts.netloc if parts.netloc != "localhost" else ""
        return DatasetName(f"file://{host}" if host else "file", path or "/")
    authority = parts.netloc if scheme.startswith(("abfs", "wasb")) else parts.netloc.rpartition("@")[2]
    name = path if scheme == "hdfs" else path.removeprefix("/")
    return DatasetName(f"{scheme}://{authority}", name or "/")


def catalog_type(properties: Mapping[str, str]) -> str:
    """The kind of a catalog, as pyiceberg tells it: by its type, its class, or the scheme of its address."""
    if kind := properties.get("type"):
        return kind.lower()
    if implementation := properties.get("py-catalog-impl"):
        return implementation.rpartition(".")[2]
    scheme = urlsplit(properties.get("uri", "")).scheme
    if scheme in ("http", "https"):
        return "rest"
    if scheme == "thrift":
        return "hive"
    return "sql" if scheme.startswith(("sqlite", "postgresql")) else "unknown"


def catalog_dataset(
    catalog_name: str, properties: Mapping[str, str], identifier: tuple[str, ...]
) -> DatasetName:
    """The name of a table in its catalog, as the Spark integration has it where it knows the catalog's kind.

    Args:
        catalog_name: What we call the catalog; it names those that have no address of their own.
        properties: Of the catalog.
        identifier: Parts of the namespace and the table's name.
    """
    kind, dotted = catalog_type(properties), ".".join(identifier)
    uri = urlsplit(properties.get("uri", ""))
    if kind == "rest" and uri.netloc:
        return DatasetName(without_credentials(properties["uri"]), dotted)
    if kind == "hive" and uri.hostname:
        return DatasetName(f"hive://{uri.hostname}:{uri.port or 9083}", dotted)
    if kind == "glue":
        region = properties.get("glue.region") or properties.get("client.region")
        if region and (account := properties.get("glue.id")):
            return DatasetName(f"arn:aws:glue:{region}:{account}", "table/" + "/".join(identifier))
    if kind == "sql" and uri.scheme.startswith("postgresql") and uri.hostname:
        database = unquote(uri.path.removeprefix("/"))
        return DatasetName(f"postgres://{uri.hostname}:{uri.port or 5432}", f"{database}.{dotted}")
    return DatasetName(f"iceberg://{catalog_name}", dotted)


def without_credentials(uri: str) -> str:
    """An address without user, password, query and fragment: any of them may be a secret."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
