"""The Iceberg catalog: opening it, and what its errors mean for a run.

pyiceberg's `Catalog` is the port of this room: whatever pyiceberg can open, Airberg can write to. The
in-memory twin is pyiceberg's own in-memory catalog (`memory_catalog`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    CommitStateUnknownException,
    ForbiddenError,
    NotInstalledError,
    OAuthError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from airberg.errors import AirbergError, ConfigurationFailed, TransientFailed
from airberg.lake.version3 import enable
from airberg.settings import Settings

enable()

REFUSED = (UnauthorizedError, ForbiddenError, OAuthError, AuthorizationExpiredError, PermissionError)
PASSING = (
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    CommitStateUnknownException,
    DBAPIError,
    OSError,  # files, sockets, and everything that `requests` raises
)

_SECRET_NAME = re.compile(r"secret|password|passwd|token|credential|access-key|account-key|sas|private", re.I)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^@/\s]+(?=@)")


def masked(text: str, properties: Mapping[str, str]) -> str:
    """`text` without the secrets of `properties` and without passwords inside URLs."""
    for name, value in properties.items():
        if value and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
        if (password := _url_password(value)) is not None:
            text = text.replace(password, "***").replace(unquote(password), "***")
    return _URL_PASSWORD.sub(r"\1:***", text)


def _url_password(value: str) -> str | None:
    if "://" not in value or "@" not in value:
        return None
    try:
        return urlsplit(value).password or None
    except ValueError:
        return None


@contextmanager
def catalog_errors(doing: str, properties: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn what a catalog or its storage raises into errors that decide about a retry.

    Args:
        doing: What was tried, for the message: `"opening the catalog"`.
        properties: Properties of the catalog, whose secrets are taken out of the message.

    Raises:
        ConfigurationFailed: The catalog refused us, or lacks a driver.
        TransientFailed: It did not answer, or its storage failed.
    """
    try:
        yield
    except AirbergError:
        raise
    except REFUSED as error:
        raise ConfigurationFailed(
            f"The Iceberg catalog or its storage refused {doing}: {_detail(error, properties)}",
            guidance="Check the credentials and rights in the catalog properties.",
            code="catalog-refused",
        ) from None
    except (NotInstalledError, ModuleNotFoundError) as error:
        raise ConfigurationFailed(
            f"A driver is missing for {doing}: {_detail(error, properties)}",
            guidance="Install the extra of pyiceberg that this catalog or storage needs.",
            code="catalog-driver-missing",
        ) from None
    except PASSING as error:
        raise TransientFailed(
            f"The Iceberg catalog or its storage failed at {doing}: {_detail(error, properties)}",
            guidance="The run may be repeated; check that the catalog and its storage are reachable.",
            code="catalog-unreachable",
        ) from None


def _detail(error: Exception, properties: Mapping[str, str] | None) -> str:
    # SQLAlchemy appends the statement and its parameters: noise, and it may hold what a caller sent.
    reason = error.orig if isinstance(error, DBAPIError) else error
    lines = str(reason).strip().splitlines()
    return masked(f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": "), properties or {})


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog of this deployment, and make the local folders that it names.

    With no properties in the settings, pyiceberg's own configuration (file and `PYICEBERG_CATALOG__*`)
    decides, as for any other pyiceberg program.

    Raises:
        ConfigurationFailed: The catalog is not configured rightly.
        TransientFailed: The catalog does not answer.
    """
    name, properties = settings.catalog.name, settings.catalog_properties
    with catalog_errors(f"opening the catalog {name!r}", properties):
        _make_local_folders(properties)
        try:
            return load_catalog(name, **properties)
        except DBAPIError:
            raise
        # pyiceberg raises ValueError for an unknown type, KeyError for a missing property; SQLAlchemy has
        # its own errors for URLs and drivers.
        except (ValueError, KeyError, TypeError, SQLAlchemyError) as error:
            raise ConfigurationFailed(
                f"The Iceberg catalog {name!r} cannot be opened: {_detail(error, properties)}",
                guidance="Check AIRBERG_CATALOG__NAME and AIRBERG_CATALOG__PROPERTIES, or .pyiceberg.yaml.",
                code="catalog-misconfigured",
            ) from None


def _make_local_folders(properties: Mapping[str, str]) -> None:
    uri, warehouse = properties.get("uri", ""), properties.get("warehouse", "")
    if uri.startswith("sqlite:///") and (path := uri.removeprefix("sqlite:///")) not in ("", ":memory:"):
        Path(path.split("?")[0]).parent.mkdir(parents=True, exist_ok=True)
    if warehouse.startswith("file://"):
        Path(unquote(urlsplit(warehouse).path)).mkdir(parents=True, exist_ok=True)
    elif warehouse.startswith("/"):
        Path(warehouse).mkdir(parents=True, exist_ok=True)


def memory_catalog(warehouse: Path) -> Catalog:
    """A catalog that lives as long as this object; its data files lie in the folder `warehouse`.

    It is bound to the thread that made it: SQLite keeps one in-memory database per connection.
    """
    warehouse.mkdir(parents=True, exist_ok=True)
    return InMemoryCatalog("memory", warehouse=f"file://{warehouse}")
