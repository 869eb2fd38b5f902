"""Runs a declarative manifest; started by path with the interpreter of an environment that has `airbyte-cdk`.

`python -I declarative_runner.py MANIFEST COMPONENTS VERB OPTIONS…`, where COMPONENTS is a path or `-`. Not
imported by Airberg. The CDK's own command takes the manifest after the verb, and answers `spec` with that of
manifests in general: here it is the manifest's own. The verb `inspect` writes one JSON object, `spec` and
`custom` (the names of custom components), which is what Airberg remembers of a manifest.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_INJECTED = "__injected_"
"""What the CDK takes out of a configuration in place of manifest and components: code of the caller."""
_CONTROL = '"CONNECTOR_CONFIG"'


def main(manifest: str, components: str, verb: str, options: list[str]) -> None:
    """Answer the verb."""
    if verb == "inspect":
        content = _load(manifest)
        custom = sorted(set(_custom_components(content)))
        print(json.dumps({"custom": custom, "spec": _specification(content)}))
    elif verb == "spec":
        spec = {"connectionSpecification": _specification(_load(manifest))}
        print(json.dumps({"type": "SPEC", "spec": spec}))
    else:
        _run(manifest, components, verb, options)


def _load(manifest: str) -> dict[str, Any]:
    import yaml

    with Path(manifest).open(encoding="utf-8") as file:
        content = yaml.safe_load(file)
    if not isinstance(content, dict):
        sys.exit("the manifest is not a mapping")
    if not isinstance(content.get("spec"), dict):
        sys.exit("the manifest has no section `spec`: it says which configuration the connector takes")
    return content


def _custom_components(value: object) -> Iterator[str]:
    """The classes that the manifest wants to have loaded, as the CDK finds them."""
    if isinstance(value, dict):
        kind, wanted = value.get("type"), value.get("class_name")
        if isinstance(wanted, str):
            yield wanted
        elif isinstance(kind, str) and kind.startswith("Custom"):
            yield kind
        for inner in value.values():
            yield from _custom_components(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _custom_components(inner)


def _specification(content: dict[str, Any]) -> dict[str, Any]:
    """By the CDK, which follows references and finds what is wrong with the manifest.

    That may load custom components; where there are some, the section is taken as it is written.
    """
    if any(_custom_components(content)):
        return _plain(content["spec"].get("connection_specification", {}))
    from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource

    source = ConcurrentDeclarativeSource(catalog=None, config=None, state=[], source_config=content)
    return _plain(source.spec(logging.getLogger("airbyte")).connectionSpecification)


def _plain(spec: object) -> dict[str, Any]:
    """As JSON has it: YAML knows dates."""
    plain: dict[str, Any] = json.loads(json.dumps(spec, default=str))
    return plain


def _run(manifest: str, components: str, verb: str, options: list[str]) -> None:
    if "--config" in options:
        _remove_injected(Path(options[options.index("--config") + 1]))
    more = ["--manifest-path", manifest]
    if components != "-":
        more += ["--components-path", components]
    sys.argv = ["source-declarative-manifest", verb, *options, *more]
    sys.stdout = _Output(sys.stdout)
    from airbyte_cdk.cli.source_declarative_manifest import run

    run()


class _Output:
    """Standard output without the manifest.

    The CDK puts the manifest into the configuration, and a manifest that migrates its configuration hands
    out all of it, to be stored (CONTROL).
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def write(self, text: str) -> int:
        """Write whole lines, or lines without their ends, as the CDK does."""
        if _CONTROL in text:
            text = "".join(map(_without_manifest, text.splitlines(keepends=True)))
        return self._output.write(text)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self._output, name)


def _without_manifest(line: str) -> str:
    try:
        message = json.loads(line)
        holder = message["control"]["connectorConfig"]
        holder["config"] = _without_injected(holder["config"])
    except (ValueError, KeyError, TypeError, AttributeError):  # a record that has such a text
        return line
    return json.dumps(message) + ("\n" if line.endswith("\n") else "")


def _without_injected(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith(_INJECTED)}


def _remove_injected(file: Path) -> None:
    """Take out of our own copy of the configuration what the manifest alone decides."""
    config = json.loads(file.read_bytes())
    kept = _without_injected(config)
    if len(kept) < len(config):
        file.write_text(json.dumps(kept))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
