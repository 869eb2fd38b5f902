"""Where the values of secret references are.

What a store needs is loaded when it is asked for the first time. No message here holds a value.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

from airberg.errors import ConfigurationFailed
from airberg.sources.secret_settings import SecretSettings

ENV_PREFIX: Final = "AIRBERG_SECRET_"
"""Is put before each name, so that no reference can name a variable that was not made for it."""

MAX_BYTES: Final = 1024 * 1024

Content: TypeAlias = str | Mapping[str, object]
"""A text, or the fields of a secret that has some."""


class NoSuchSecret(LookupError):
    """There is no such secret, or no such field of it."""


class SecretStores:
    """The stores of a deployment; each secret is asked for once.

    Args:
        settings: Where the stores are.
    """

    def __init__(self, settings: SecretSettings) -> None:
        self._settings = settings
        self._found: dict[tuple[str, str], Content] = {}

    def __repr__(self) -> str:
        return "SecretStores(...)"

    def value(self, scheme: str, name: str, member: str | None) -> str | int | float | bool:
        """The value of a secret, or of one field of a secret that is a JSON object.

        Raises:
            NoSuchSecret: There is none, or it is empty.
            ConfigurationFailed: The store is not set up, or refuses (`secrets-refused`).
            Unavailable: The store does not answer.
        """
        key = scheme, name
        if key not in self._found:
            self._found[key] = self._read(scheme, name)
        content = self._found[key]
        value: object = content if member is None else _fields(content).get(member)
        if value is None or value == "":
            raise NoSuchSecret("there is no such secret" if member is None else "it has no such field")
        if not isinstance(value, str | int | float):
            raise NoSuchSecret("what is there is neither a text nor a number")
        return value

    def _read(self, scheme: str, name: str) -> Content:
        match scheme:
            case "env":
                return os.environ.get(ENV_PREFIX + name, "")
            case "file":
                return _read_file(self._settings.files_dir, name)
            case "vault":
                from airberg.sources.secret_stores.vault import read_vault

                return read_vault(self._settings, name)
            case "aws-sm":
                from airberg.sources.secret_stores.aws import read_aws

                return read_aws(self._settings, name)
            case _:
                raise NoSuchSecret("there is no such store")


def _fields(content: Content) -> Mapping[str, object]:
    if not isinstance(content, str):
        return content
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NoSuchSecret("it is not a JSON object, so it has no fields")
    return found


def _read_file(folder: Path, name: str) -> str:
    """A text file whose real place is below the folder; one line end at its end does not count."""
    try:
        base = folder.resolve(strict=True)
        path = (base / name).resolve(strict=True)
        status = path.stat()
        if not path.is_relative_to(base) or not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise NoSuchSecret("there is no such secret")
        text = path.read_text(encoding="utf-8")
    except PermissionError:
        raise refused(
            "file", "the file may not be read", "The user of the service must be able to."
        ) from None
    except UnicodeDecodeError:
        raise NoSuchSecret("what is there is no text in UTF-8") from None
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise NoSuchSecret("there is no such secret") from None
    return text.removesuffix("\n").removesuffix("\r")


def refused(store: str, why: str, guidance: str) -> ConfigurationFailed:
    """The store is there, but does not serve this deployment."""
    return ConfigurationFailed(
        f"The secret store {store} cannot be used: {why}.", guidance=guidance, code="secrets-refused"
    )
