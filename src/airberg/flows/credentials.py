"""Secrets between Airberg and its Airflow: made once, kept in HOME/secrets/airflow.json, never shown."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from airberg.errors import ConfigurationFailed
from airberg.settings import Settings

ADMIN = "admin"
"""User of the embedded Airflow for people; the service has its own, with a lesser role."""


class AirflowCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """All secrets of one deployment's Airflow. `repr` shows none of them.

    Attributes:
        password: Of the service's user (`settings.airflow.username`).
        token: A static bearer token that is used instead of a login.
        bundle_token: What the DAG bundle shows to our API.
        admin_password: Of the user `admin` of the embedded Airflow.
        fernet_key: Embedded Airflow only: encrypts its connections.
        api_secret: Embedded Airflow only: signs its cookies and file tokens.
        jwt_secret: Embedded Airflow only: signs its access tokens.
    """

    password: str = ""
    token: str | None = None
    bundle_token: str = ""
    admin_password: str = ""
    fernet_key: str = ""
    api_secret: str = ""
    jwt_secret: str = ""

    def secrets(self) -> set[str]:
        """All of them, to be taken out of texts."""
        return {value for value in msgspec.structs.astuple(self) if value}

    def __repr__(self) -> str:
        return "AirflowCredentials(...)"

    __str__ = __repr__


def credentials_path(settings: Settings) -> Path:
    """The file of generated secrets."""
    return settings.secrets_dir / "airflow.json"


def ensure_credentials(settings: Settings) -> AirflowCredentials:
    """The secrets; those that neither the file nor a setting has are made and stored.

    Raises:
        ConfigurationFailed: The file cannot be read or written.
    """
    path = credentials_path(settings)
    try:
        settings.secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.secrets_dir.chmod(0o700)
        with _exclusive(path.with_suffix(".lock")):
            stored = _read(path)
            complete = _completed(stored)
            if complete != stored:
                write_private(path, msgspec.json.format(msgspec.json.encode(complete)))
    except OSError as e:
        raise ConfigurationFailed(
            f"{path} cannot be written: {e.strerror}.",
            guidance="Make the folder writable, or set AIRBERG_HOME.",
            code="secrets-not-writable",
        ) from None
    return _with_settings(complete, settings)


def load_credentials(settings: Settings) -> AirflowCredentials:
    """The secrets that talking to Airflow needs; nothing is made, except for an embedded Airflow.

    Raises:
        ConfigurationFailed: Airflow is not embedded and a setting is missing.
    """
    if settings.airflow.embedded:
        return ensure_credentials(settings)
    found = _with_settings(_read(credentials_path(settings)), settings)
    missing = []
    if not (found.password or found.token):
        missing.append("AIRBERG_AIRFLOW__PASSWORD or AIRBERG_AIRFLOW__TOKEN")
    if not found.bundle_token:
        missing.append("AIRBERG_AIRFLOW__BUNDLE_TOKEN")
    if missing:
        raise ConfigurationFailed(
            "The settings do not say how to talk to your Airflow.",
            guidance=f"Set {' and '.join(missing)}.",
            code="airflow-credentials-missing",
        )
    return found


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 so that a reader sees the old or the new content, never a part."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _read(path: Path) -> AirflowCredentials:
    try:
        return msgspec.json.decode(path.read_bytes(), type=AirflowCredentials)
    except FileNotFoundError:
        return AirflowCredentials()
    except OSError as e:
        problem = e.strerror
    except msgspec.DecodeError:
        problem = "it is not the JSON that Airberg wrote"
    raise ConfigurationFailed(
        f"{path} cannot be read: {problem}.",
        guidance="Restore it, or delete it to have new secrets made.",
        code="secrets-not-readable",
    )


def _completed(found: AirflowCredentials) -> AirflowCredentials:
    return AirflowCredentials(
        password=found.password or secrets.token_urlsafe(32),
        token=None,
        bundle_token=found.bundle_token or secrets.token_urlsafe(32),
        admin_password=found.admin_password or secrets.token_urlsafe(12),
        fernet_key=found.fernet_key or base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        api_secret=found.api_secret or secrets.token_urlsafe(48),
        jwt_secret=found.jwt_secret or secrets.token_urlsafe(64),
    )


def _with_settings(found: AirflowCredentials, settings: Settings) -> AirflowCredentials:
    """What a setting says wins; it is not stored."""
    airflow = settings.airflow
    changes: dict[str, str] = {}
    if airflow.password is not None:
        changes["password"] = airflow.password.get_secret_value()
    if airflow.token is not None:
        changes["token"] = airflow.token.get_secret_value()
    if airflow.bundle_token is not None:
        changes["bundle_token"] = airflow.bundle_token.get_secret_value()
    return msgspec.structs.replace(found, **changes) if changes else found


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """One process at a time: two that start at once must not make two sets of secrets."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
