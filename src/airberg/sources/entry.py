"""How to get one connector: the value that a registry holds and that a job keeps."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

LOCAL_VERSION = "local"
"""Version of an executable for which none was declared."""
CDK_VERSION = "7.39.1"
"""The `airbyte-cdk` that runs manifests which do not name another."""
UNKNOWN_PYTHON: Final = ">=3.10,<3.12"
"""Of packages of Airbyte whose own is not known: what nearly all connectors of their age run on."""

PythonFrom: TypeAlias = Literal["package", "other-release", "assumed"]
"""How it is known which interpreters a package runs on."""


class ConnectorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """How to get one connector in one version: a package, an executable, a manifest or an image.

    A job keeps the entry that it was made with, so that whatever becomes of the registry or of the
    connectors file, its next run is that of the same connector.

    Attributes:
        name: `source-…`, as in `source_name`.
        title: Name for people.
        category: One word, `files`, `finance`, …; `own` for those of the deployment.
        description: What can be read from it, one sentence.
        docs: Address of a page about it.
        language: What it is written in, as Airbyte's registry calls it: `python`, `manifest-only`, `java`, …;
            empty: not known.
        tested: This version was seen to install and to give its specification when the snapshot was made.
        package: Name on the package index.
        version: Exact version of the package; for the others what the deployment calls it, or empty.
        python: PEP 440 specifier of the interpreters that the package runs on.
        python_from: `package`: this version says so itself, or the deployment does; `other-release`: another
            release of it does; `assumed`: neither is known.
        overrides: Requirement lines that replace pins of the package that cannot be met.
        executable: Absolute path of a program that is the connector; then there is no package.
        manifest: Absolute path of a declarative manifest (YAML).
        components: Absolute path of the manifest's custom components (Python).
        cdk: Version of `airbyte-cdk` that runs the manifest.
        digest: SHA-256 of manifest and components, once the entry is settled (`declared.settled`).
        image: Reference of a container image, with tag or digest.
    """

    name: str
    title: str = ""
    category: str = "own"
    description: str = ""
    docs: str = ""
    language: Annotated[str, msgspec.Meta(pattern=r"^$|^[a-z][a-z0-9-]{0,39}$")] = ""
    tested: bool = False
    package: Annotated[str, msgspec.Meta(pattern=r"^$|^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")] = ""
    version: Annotated[str, msgspec.Meta(pattern=r"^$|^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")] = ""
    python: str = ">=3.10,<3.13"
    python_from: PythonFrom = "package"
    overrides: tuple[str, ...] = ()
    executable: str | None = None
    manifest: str | None = None
    components: str | None = None
    cdk: Annotated[str, msgspec.Meta(pattern=r"^[0-9][A-Za-z0-9.!+_-]*$")] = CDK_VERSION
    digest: str = ""
    image: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]*$")] | None = None

    @property
    def known_version(self) -> str:
        """The version as people and folders call it."""
        return self.version or LOCAL_VERSION
