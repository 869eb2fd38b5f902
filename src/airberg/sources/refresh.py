"""A newer snapshot of the connectors, from Airbyte's own registry, for this deployment alone.

It is made when an operator asks for it (`airberg sources refresh`), never by a request. Of what the registry
says, only the form that is expected is taken: Airbyte's own sources with a package of their own name and an
exact version. All else is left out, so that nothing that was slipped in becomes a download.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.sources.entry import UNKNOWN_PYTHON, ConnectorEntry
from airberg.sources.snapshot import Snapshot

if TYPE_CHECKING:
    from airberg.settings import Settings

MAX_BYTES = 128 * 1024 * 1024
TIMEOUT_S = 60.0
_NAME = re.compile(r"source-[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*((a|b|rc|\.post|\.dev)[0-9]+)?")
_WORD = re.compile(r"[a-z][a-z0-9-]{0,39}")
_OWNER = "airbyte/"
_LANGUAGE = "language:"
_MAX_TITLE = 100
_CATEGORIES = {"database": "databases", "file": "files"}
_ADDRESS = "from airbyte.registry import _get_registry_url; print(_get_registry_url())"


class _Package(msgspec.Struct):
    enabled: bool = False
    packageName: str = ""


class _Registries(msgspec.Struct):
    pypi: _Package | None = None


class Newer(msgspec.Struct, frozen=True):
    """What a registry says.

    Attributes:
        connectors: Those that are packages.
        images: Name → language of those that are not.
        left_out: How many sources are not of the form that is expected.
    """

    connectors: list[ConnectorEntry]
    images: dict[str, str]
    left_out: int


class _Definition(msgspec.Struct, rename="camel"):
    docker_repository: str = ""
    docker_image_tag: str = ""
    name: str = ""
    source_type: str | None = None
    documentation_url: str | None = None
    remote_registries: _Registries | None = None
    language: Any = None
    tags: list[Any] = []
    tombstone: Any = False


class _Definitions(msgspec.Struct):
    sources: list[Any]


def registry_address(settings: Settings) -> str:
    """Where PyAirbyte gets the registry: an address, or a file when `AIRBYTE_LOCAL_REGISTRY` names one.

    Raises:
        ConfigurationFailed: PyAirbyte's environment was not made.
    """
    if named := os.environ.get("AIRBYTE_LOCAL_REGISTRY"):
        return named
    python = settings.pyairbyte_dir / "bin" / "python"
    if not python.exists():
        raise ConfigurationFailed(
            "PyAirbyte's environment has not been made yet, and it knows where the registry is.",
            guidance="`airberg up` makes it; or say where the registry is: --from.",
            code="pyairbyte-missing",
        )
    with tempfile.TemporaryDirectory() as folder:  # it writes where it stands
        env = {"PATH": os.defpath, "HOME": folder, "DO_NOT_TRACK": "1", "AIRBYTE_PROJECT_DIR": folder}
        asked = subprocess.run(
            [python, "-I", "-c", _ADDRESS], env=env, cwd=folder, capture_output=True, text=True, check=True
        )
    return asked.stdout.split()[-1]


def fetch(where: str) -> bytes:
    """The registry, from an address (http, https) or a file.

    Raises:
        TransientFailed: It does not answer, or not with a registry.
        ConfigurationFailed: The file is not there.
    """
    if not where.startswith(("http://", "https://")):
        try:
            return Path(where).read_bytes()
        except OSError as error:
            raise ConfigurationFailed(
                f"The file {where} cannot be read: {error.strerror}.", code="registry-unreadable"
            ) from None
    content = bytearray()
    try:
        with httpx.stream("GET", where, timeout=TIMEOUT_S, follow_redirects=True) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > MAX_BYTES:
                    raise ConfigurationFailed("The registry is too large.", code="registry-unreadable")
    except httpx.HTTPError as error:
        raise TransientFailed(
            f"The registry does not answer ({type(error).__name__}).",
            guidance="Without the internet, copy the file here and use --from.",
            code="registry-unreachable",
        ) from None
    return bytes(content)


def newer_entries(data: bytes, known: Mapping[str, ConnectorEntry]) -> Newer:
    """The connectors of the registry.

    Args:
        data: The registry.
        known: Those of the package's snapshot: what it knows of interpreters, pins and categories stays.

    Raises:
        ConfigurationFailed: It is no registry, or one without any such connector.
    """
    try:
        sources = msgspec.json.decode(data, type=_Definitions).sources
    except msgspec.DecodeError:
        raise ConfigurationFailed(
            "What was fetched is no registry of connectors.", code="registry-unreadable"
        ) from None
    entries: dict[str, ConnectorEntry] = {}
    images: dict[str, str] = {}
    for source in sources:
        found = _definition(source)
        if found is None:
            continue
        name = found.docker_repository.removeprefix(_OWNER)
        if (entry := _entry(name, found, known.get(name))) is not None:
            entries[name] = entry
        elif language := _other_language(found):
            images[name] = language
    images = {name: images[name] for name in sorted(images.keys() - entries)}
    if not entries:
        raise ConfigurationFailed(
            "The registry has no connector that is a package.", code="registry-unreadable"
        )
    connectors = [entries[name] for name in sorted(entries)]
    return Newer(connectors, images, len(sources) - len(connectors) - len(images))


def _definition(source: object) -> _Definition | None:
    """A source of Airbyte's own, if it is described as one, and has not been given up."""
    try:
        found = msgspec.convert(source, _Definition)
    except msgspec.ValidationError:
        return None
    name = found.docker_repository.removeprefix(_OWNER)
    ours = found.docker_repository == _OWNER + name and _NAME.fullmatch(name) and not found.tombstone
    return found if ours else None


def _other_language(found: _Definition) -> str | None:
    """What it is written in, if that is not Python; by its tags, of which it may have several."""
    tags = [str(tag) for tag in found.tags]
    tagged = [tag.removeprefix(_LANGUAGE) for tag in tags if tag.startswith(_LANGUAGE)]
    languages = tagged or [str(found.language or "")]
    if "python" in languages or not all(_WORD.fullmatch(language) for language in languages):
        return None
    return languages[0]


def _entry(name: str, found: _Definition, before: ConnectorEntry | None) -> ConnectorEntry | None:
    package = found.remote_registries.pypi if found.remote_registries else None
    fits = (
        package is not None
        and package.enabled
        and package.packageName == f"airbyte-{name}"
        and _VERSION.fullmatch(found.docker_image_tag)
        and 0 < len(found.name) <= _MAX_TITLE
        and found.name.isprintable()
    )
    if not fits:
        return None
    docs = found.documentation_url or ""
    if before is not None:
        if before.version == found.docker_image_tag:
            return before
        known = "other-release" if before.python_from == "package" else before.python_from
        return msgspec.structs.replace(
            before, version=found.docker_image_tag, tested=False, python_from=known
        )
    return ConnectorEntry(
        name=name,
        title=found.name,
        category=_CATEGORIES.get(found.source_type or "", "other"),
        docs=docs if docs.startswith("https://") and docs.isprintable() and len(docs) < 300 else "",
        package=f"airbyte-{name}",
        version=found.docker_image_tag,
        language="python",
        python=UNKNOWN_PYTHON,
        python_from="assumed",
    )


def write_snapshot(file: Path, newer: Newer, date: str) -> None:
    """Replace the deployment's snapshot; a reader sees the one or the other."""
    snapshot = Snapshot(connectors=newer.connectors, snapshot=date, images=newer.images)
    content = msgspec.json.format(msgspec.json.encode(snapshot), indent=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".registry-", delete=False) as temporary:
        temporary.write(content)
        temporary.flush()
        os.fsync(temporary.fileno())
    Path(temporary.name).replace(file)
