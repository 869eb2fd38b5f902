"""Whether a configuration that a connector hands out (CONTROL) may take the place of the stored one."""

from __future__ import annotations

from typing import Any

import msgspec

from airberg.errors import ConfigurationFailed
from airberg.sources.secret_fields import Schema
from airberg.sources.spec import config_problems

MAX_BYTES = 1024 * 1024


def check_renewal(spec: Schema, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse what would make a job unusable: the stored configuration is replaced for good.

    Faults that the old configuration has too are no reason: then the specification is not to be trusted.

    Args:
        spec: The `connectionSpecification`.
        old: The configuration that the connector was given.
        new: The one that it hands out.

    Raises:
        ConfigurationFailed: Code `connector-config-refused`; no value is in its text.
    """
    if (size := len(msgspec.json.encode(new))) > MAX_BYTES:
        raise _refused(f"it has {size:,} bytes")
    known = {problem.pointer for problem in config_problems(spec, old)}
    for problem in config_problems(spec, new):
        if problem.pointer not in known:
            raise _refused(problem.message.rstrip("."))
    if old and not new:
        raise _refused("it is empty")


def _refused(why: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The connector handed out a new configuration that it would not accept itself: {why}.",
        guidance="The stored configuration was kept. Report this to who maintains the connector.",
        code="connector-config-refused",
    )
