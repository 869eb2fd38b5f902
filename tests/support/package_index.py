"""A package index in a folder, with a connector so small that installing it takes no time.

uv takes it through `UV_FIND_LINKS`; with `UV_NO_INDEX` it knows no other.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

TINY = """
import json
import sys
from pathlib import Path

import tiny_dep

CALLS = Path({calls!r})
SPEC = {{
    "type": "object",
    "required": ["token"],
    "properties": {{
        "token": {{"type": "string", "airbyte_secret": True, "title": "Token"}},
        "page_size": {{"type": "integer", "title": "Page size"}},
    }},
}}
STREAM = {{
    "name": "things",
    "json_schema": {{"properties": {{"id": {{"type": "integer"}}, "at": {{"type": "string"}}}}}},
    "supported_sync_modes": ["full_refresh", "incremental"],
    "source_defined_primary_key": [["id"]],
    "default_cursor_field": ["at"],
}}


def say(kind, **body):
    print(json.dumps({{"type": kind, **body}}), flush=True)


def main():
    verb = sys.argv[1]
    with CALLS.open("a") as calls:
        calls.write(f"{{verb}} {{tiny_dep.VERSION}}\\n")
    while CALLS.with_name("hold").exists():
        pass
    if verb == "spec":
        say("SPEC", spec={{"connectionSpecification": SPEC}})
        return
    token = json.loads(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())["token"]
    if verb == "check":
        if token == "good":
            say("CONNECTION_STATUS", connectionStatus={{"status": "SUCCEEDED"}})
        else:
            message = f"the token {{token}} is not known"
            say("CONNECTION_STATUS", connectionStatus={{"status": "FAILED", "message": message}})
    elif verb == "discover":
        if token == "once":
            say("CONTROL", control={{"type": "CONNECTOR_CONFIG", "emitted_at": 1,
                                    "connectorConfig": {{"config": {{"token": "next"}}}}}})
        say("CATALOG", catalog={{"streams": [STREAM]}})
    elif verb == "read":
        for number in (1, 2):
            data = {{"id": number, "at": "2026-01-01"}}
            say("RECORD", record={{"stream": "things", "data": data, "emitted_at": 1}})
        status = {{"stream_descriptor": {{"name": "things"}}, "status": "COMPLETE"}}
        say("TRACE", trace={{"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": status}})
"""


class PackageIndex:
    """The folder.

    Attributes:
        calls: The tiny connector writes a line here whenever it is started: verb and version of `tiny-dep`.
        hold: While this file exists, the tiny connector answers nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "packages"
        self.folder.mkdir(parents=True)
        self.calls = folder / "calls"
        self.hold = folder / "hold"
        self.environment = {
            "UV_FIND_LINKS": str(self.folder),
            "UV_NO_INDEX": "1",
            "UV_CACHE_DIR": str(folder / "cache"),
            "UV_PYTHON_DOWNLOADS": "never",
        }

    def add_dependency(self, version: str) -> Path:
        """Publish a version of `tiny-dep`."""
        return self.add("tiny-dep", version, {"tiny_dep.py": f"VERSION = {version!r}\n"})

    def add_tiny(self, version: str = "1.0.0", requires: Sequence[str] = ("tiny-dep",)) -> Path:
        """Publish a version of the connector `source-tiny`."""
        modules = {"source_tiny/__init__.py": "", "source_tiny/unused.py": "UNUSED = 1\n"}
        modules["source_tiny/run.py"] = TINY.format(calls=str(self.calls))
        commands = {"source-tiny": "source_tiny.run:main"}
        return self.add("airbyte-source-tiny", version, modules, requires, commands)

    def add(
        self,
        name: str,
        version: str,
        modules: Mapping[str, str],
        requires: Sequence[str] = (),
        commands: Mapping[str, str] | None = None,
    ) -> Path:
        """Publish a wheel of pure Python; one of the same name and version is replaced."""
        stem = f"{name.replace('-', '_')}-{version}"
        info = f"{stem}.dist-info"
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        files = dict(modules)
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        files[f"{info}/WHEEL"] = (
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        scripts = "".join(f"{command} = {target}\n" for command, target in (commands or {}).items())
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}"
        record = "".join(f"{path},{_digest(text)},{len(text.encode())}\n" for path, text in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        wheel = self.folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        return wheel

    def use(self, environment: pytest.MonkeyPatch) -> None:
        """Let uv know no other index, in this process and its children."""
        for name, value in self.environment.items():
            environment.setenv(name, value)

    def started(self, verb: str) -> list[str]:
        """With which version of `tiny-dep` the connector was started for a verb, each time."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line.split()[1] for line in lines if line.split()[0] == verb]


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.rstrip(b'=').decode()}"
