"""References to secrets: `secret://STORE/NAME#FIELD` in place of a value of a source configuration.

A reference is what is stored and shown. It is resolved in the process that starts the connector, each time
anew, and only if a rule of the deployment allows it to the owner: whoever may name any secret could point a
connector at a host of his own and read it there. Whether a secret exists that one may not use is not told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from airberg.errors import ConfigurationFailed, InvalidRequest, Problem
from airberg.sources.redact import MASK
from airberg.sources.secret_fields import is_reference, secret_texts
from airberg.sources.secret_settings import SecretRule, SecretSettings
from airberg.sources.secret_stores import NoSuchSecret, SecretStores
from airberg.sources.spec_problems import ROOT

Path: TypeAlias = tuple[str | int, ...]

_PART = r"[A-Za-z0-9_.+=@:-]+"  # no `%`: a client of a service could decode it to another name
_FORM = re.compile(
    rf"secret://(env|file|vault|aws-sm)/({_PART}(?:/{_PART})*)(?:#([^#\s\x00-\x1f]{{1,255}}))?"
)
_ENV_NAME = re.compile(r"[A-Z0-9_]+")
_MOVED_MIN = 8
"""A value of so many characters is recognised where a connector has copied it to."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference that is well formed.

    Attributes:
        scheme: Which kind of store: `env`, `file`, `vault`, `aws-sm`.
        name: What is looked for there.
        member: The field of it; None for all of it.
        text: As it is written.
    """

    scheme: str
    name: str
    member: str | None
    text: str


@dataclass(frozen=True)
class Resolved:
    """A configuration as the connector gets it, and what its references stood for.

    Attributes:
        config: With values in place of the references.
        found: By place, the reference and its value.
    """

    config: dict[str, Any] = field(repr=False)
    found: Mapping[Path, tuple[Reference, object]] = field(default_factory=dict, repr=False)

    @property
    def hidden(self) -> frozenset[str]:
        """What must not show, wherever the reference stood: for a `Redactor`."""
        return frozenset(text for _, value in self.found.values() for text in secret_texts(value) if text)

    def restored(self, config: dict[str, Any]) -> dict[str, Any]:
        """A configuration that the connector handed out, with references in place of their values: to store.

        A value that the connector has changed, such as a token that it renewed, is kept instead of its
        reference, which stands for the old one.

        Raises:
            ConfigurationFailed: The connector itself wrote a reference: it would get what it names next time.
        """
        if any(is_reference(text) for _, text in _texts(config)):
            raise ConfigurationFailed(
                "The connector handed out a new configuration with a reference to a secret in it.",
                guidance="The stored configuration was kept. Do not use a connector that does so.",
                code="connector-config-refused",
            )
        moved = {v: r.text for r, v in self.found.values() if isinstance(v, str) and len(v) >= _MOVED_MIN}

        def back(value: Any, path: Path) -> Any:  # noqa: ANN401 - JSON
            if isinstance(value, dict):
                return {name: back(child, (*path, name)) for name, child in value.items()}
            if isinstance(value, list):
                return [back(child, (*path, i)) for i, child in enumerate(value)]
            reference, resolved = self.found.get(path, (None, None))
            if reference is not None and type(resolved) is type(value) and resolved == value:
                return reference.text
            return moved.get(value, value) if isinstance(value, str) else value

        restored: dict[str, Any] = back(config, ())
        return restored


def refuse_values(
    config: dict[str, Any], owner: str | None, rules: Sequence[SecretRule], root: str = ROOT
) -> None:
    """Refuse what is no value: masks, and references that are malformed or not allowed. Asks no store.

    Args:
        config: As it was sent.
        owner: Whose rules count; None for who has all of the deployment (the command line).
        rules: The deployment's.
        root: Pointer to the configuration.

    Raises:
        InvalidRequest: `masked-value`, `secret-malformed`, `secret-not-allowed`, with pointers.
    """
    problems = [_mask_problem(root + _pointer(path)) for path, text in _texts(config) if MASK in text]
    problems += _reference_problems(config, owner, rules, root)
    if problems:
        raise InvalidRequest(problems)


def resolve_references(config: dict[str, Any], owner: str | None, settings: SecretSettings) -> Resolved:
    """Put values in place of the references. Each secret is asked for once.

    Args: see `refuse_values`.

    Raises:
        InvalidRequest: `secret-malformed`, `secret-not-allowed`, `secret-not-found`, with pointers.
        ConfigurationFailed: A store is not set up, or refuses the deployment (`secrets-refused`).
        Unavailable: A store does not answer (`secrets-unavailable`).
    """
    if problems := _reference_problems(config, owner, settings.rules, ROOT):
        raise InvalidRequest(problems)
    places = {path: _parsed(text) for path, text in _texts(config) if is_reference(text)}
    if not places:
        return Resolved(config)
    stores = SecretStores(settings)
    found: dict[Path, tuple[Reference, object]] = {}
    for path, reference in places.items():
        if reference is None:  # was refused above
            continue
        try:
            found[path] = reference, stores.value(reference.scheme, reference.name, reference.member)
        except NoSuchSecret as error:
            problems.append(
                Problem(
                    ROOT + _pointer(path),
                    "secret-not-found",
                    f"The reference leads to no secret: {error}.",
                    "Look at its spelling, or have the secret put there.",
                )
            )
    if problems:
        raise InvalidRequest(problems)
    return Resolved(_replaced(config, found, ()), found)


def parse_reference(text: str) -> Reference:
    """Read a reference.

    Raises:
        ValueError: It is not well formed; the message says why, without the text.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("it is not of the form secret://STORE/NAME or secret://STORE/NAME#FIELD")
    scheme, name, member = match.groups()
    if any(part in (".", "..") for part in name.split("/")):
        raise ValueError("a part of its name is . or ..")
    if scheme == "env" and not _ENV_NAME.fullmatch(name):
        raise ValueError("a name in env has capital letters, digits and _ only")
    if scheme == "vault" and (member is None or "/" not in name):
        raise ValueError("one in vault is written secret://vault/MOUNT/PATH#FIELD")
    return Reference(scheme, name, member, text)


def allowed(reference: Reference, owner: str | None, rules: Sequence[SecretRule]) -> bool:
    """Whether a rule lets the owner use it."""
    return owner is None or any(
        rule.scheme == reference.scheme
        and rule.owner in ("*", owner)
        and reference.name.startswith(rule.prefix)
        for rule in rules
    )


def _mask_problem(pointer: str) -> Problem:
    return Problem(
        pointer,
        "masked-value",
        f"The value has {MASK} in it, which stands for a secret that is not shown.",
        "Send the secret itself, or a reference to it (secret://...).",
    )


def _reference_problems(
    config: dict[str, Any], owner: str | None, rules: Sequence[SecretRule], root: str
) -> list[Problem]:
    found = (
        _reference_problem(text, root + _pointer(path), owner, rules)
        for path, text in _texts(config)
        if is_reference(text)
    )
    return [problem for problem in found if problem is not None]


def _reference_problem(
    text: str, pointer: str, owner: str | None, rules: Sequence[SecretRule]
) -> Problem | None:
    try:
        reference = parse_reference(text)
    except ValueError as error:
        return Problem(
            pointer,
            "secret-malformed",
            f"The reference to a secret cannot be used: {error}.",
            "Stores are env, file, vault and aws-sm; names have letters, digits and _ . + = @ : - /.",
        )
    if allowed(reference, owner, rules):
        return None
    return Problem(
        pointer,
        "secret-not-allowed",
        "The job's owner may not use the secret that this reference names.",
        "Ask who runs this service for a rule in AIRBERG_SECRETS__RULES.",
    )


def _parsed(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except ValueError:
        return None


def _texts(config: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    todo: list[tuple[Path, object]] = [((), config)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            todo.extend(((*path, name), child) for name, child in reversed(value.items()))
        elif isinstance(value, list):
            todo.extend(((*path, i), value[i]) for i in reversed(range(len(value))))


def _replaced(value: Any, found: Mapping[Path, tuple[Reference, object]], path: Path) -> Any:  # noqa: ANN401
    if path in found:
        return found[path][1]
    if isinstance(value, dict):
        return {name: _replaced(child, found, (*path, name)) for name, child in value.items()}
    if isinstance(value, list):
        return [_replaced(child, found, (*path, i)) for i, child in enumerate(value)]
    return value


def _pointer(path: Path) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
