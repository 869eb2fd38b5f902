"""Finds the secrets in a source configuration.

A value is a secret when any branch of the specification that could apply to it says `airbyte_secret`, or,
because connectors forget to say so, when its name or its form gives it away. Too much hidden costs a reader a
question; too little costs a password: so doubts are decided for hiding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote

from airberg.sources.redact import MASK, MIN_LENGTH

Schema: TypeAlias = dict[str, Any]

MAX_DEPTH = 60
_WORD_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase|code)?(_|$)|(^|_)pwd(_|$)|secret|token|credential|bearer|authorization|cookie"
    r"|(^|_)(api|app|access|account|private|encryption|shared|service|signing|consumer|master|auth|ssh|sas)_?key"
    r"|(^|_)key$|apikey|connection_string|(^|_)(dsn|sas|signature|jwt|pem|pin|auth)$|service_account"
)
_PLAIN_NAME = re.compile(
    r"(^|_)(primary|cursor|partition|sort|foreign|merge|object|public|map|dict)_keys?$"
    r"|(^|_)(url|uri|endpoint|host|port|type|method|kind|title|name|path|region|expires?|expiry|expires_(at|in)"
    r"|lifetime|duration|ttl|date|limit|count|field|column|header|prefix|location|format|strategy|option)$"
)
_URL_LOGIN = re.compile(r"://([^/\s@]*?):([^/\s]+)@")
_PAIR = re.compile(
    r"(?i)\b(?:password|passwd|pwd|passphrase|secret|token|api_?key|accountkey|sharedaccesskey|access_?key|sig)"
    r"\s*=\s*(\"[^\"]*\"|'[^']*'|\{[^}]*\}|[^;&\s]+)"
)
_TOKEN = re.compile(  # of GitHub, GitLab, Slack, AWS and Stripe; JWT (RFC 7519)
    r"\b(?:gh[oprsu]_[A-Za-z0-9]{30}|github_pat_\w{20}|glpat-[\w-]{15}|xox[abeoprs]-[\w-]{10}"
    r"|A[KS]IA[A-Z0-9]{16}|[rs]k_live_\w{10}|eyJ[\w-]+\.eyJ[\w-]+\.)"
)
_AUTHORIZATION = re.compile(r"(?i)^\s*(?:bearer|basic|token)\s+(\S{8,})\s*$")
_SECRET_NUMBER = re.compile(r"pass(word|wd|phrase|code)?(_|$)|(^|_)(pwd|pin)(_|$)|secret")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\"private_key\"\s*:")


def is_reference(value: object) -> bool:
    """Whether it stands for a secret that is elsewhere (`airberg.sources.references`)."""
    return isinstance(value, str) and value.startswith("secret://")


def mask_config(spec: Schema, config: dict[str, Any], known: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A copy of the configuration for people: each secret is replaced by `**********`.

    A secret object or list is hidden whole, so that not even its shape shows. A reference to a secret stays.

    Args:
        spec: The `connectionSpecification`; `{}` when it is not known, then names and forms decide alone.
        known: Secrets that are known otherwise: a text that has one in it is hidden too.
    """
    masked = _masked(config, Place(spec, (spec,)))
    if telling := tuple(text for text in known if len(text) >= MIN_LENGTH):
        masked = _without(masked, telling)
    return masked if isinstance(masked, dict) else {}


def secret_values(spec: Schema, config: dict[str, Any]) -> frozenset[str]:
    """All secrets of the configuration as text, for a `Redactor`.

    Of a text that holds a secret (a URL with a login, `password=…`, a JSON key file) both the whole and the
    part are in the set.
    """
    return frozenset(text for text in _secrets(config, Place(spec, (spec,))) if text)


class Place:
    """Where a value is: the schemas that could apply to it, its name, and whether a name gave it away."""

    def __init__(self, root: Schema, schemas: tuple[Schema, ...], name: str = "", depth: int = 0) -> None:
        self.root = root
        self.schemas = tuple(_expand(root, schemas))
        self.name = name
        self.depth = depth

    def flagged(self) -> bool:
        """A schema that could apply says that it is a secret."""
        return self.depth > MAX_DEPTH or any(
            s.get("airbyte_secret") not in (None, False, "false") for s in self.schemas
        )

    def undescribed(self) -> bool:
        """An object here has members that no schema names: what they hold cannot be told."""
        return not any(
            isinstance(s.get(keyword), dict) and s[keyword]
            for s in self.schemas
            for keyword in ("properties", "patternProperties", "additionalProperties")
        )

    def constant(self, value: object) -> bool:
        """The value is one that the specification itself spells out, such as the name of a method."""
        return any(
            ("const" in s and s["const"] == value) or (isinstance(s.get("enum"), list) and value in s["enum"])
            for s in self.schemas
        )

    def property(self, name: str) -> Place:
        """The place of a property of an object."""
        return Place(self.root, tuple(self._of_property(name)), name, self.depth + 1)

    def _of_property(self, name: str) -> Iterator[Schema]:
        for schema in self.schemas:
            declared = schema.get("properties")
            if isinstance(declared, dict) and isinstance(declared.get(name), dict):
                yield declared[name]
            elif isinstance(schema.get("additionalProperties"), dict):
                yield schema["additionalProperties"]
            patterns = schema.get("patternProperties")
            if isinstance(patterns, dict):  # which names a pattern means is not decided: any may apply
                yield from (s for s in patterns.values() if isinstance(s, dict))

    def item(self) -> Place:
        """The place of the items of a list."""
        schemas: list[Schema] = []
        for schema in self.schemas:
            items = schema.get("items")
            candidates = [*items] if isinstance(items, list) else [items]
            candidates.append(schema.get("additionalItems"))
            first = schema.get("prefixItems")
            candidates.extend(first if isinstance(first, list) else ())
            schemas.extend(s for s in candidates if isinstance(s, dict))
        return Place(self.root, tuple(schemas), self.name, self.depth + 1)


def _expand(root: Schema, schemas: tuple[Schema, ...]) -> Iterator[Schema]:
    """Each schema with its local references and all of its branches."""
    seen: set[int] = set()
    todo: list[object] = [*schemas]
    while todo:
        schema = todo.pop(0)
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for keyword in ("oneOf", "anyOf", "allOf"):
            branches = schema.get(keyword)
            todo.extend(branches if isinstance(branches, list) else ())
        todo.extend(schema.get(keyword) for keyword in ("if", "then", "else"))
        for keyword in ("dependencies", "dependentSchemas"):
            dependent = schema.get(keyword)
            todo.extend(dependent.values() if isinstance(dependent, dict) else ())
        todo.append(resolve_reference(root, schema.get("$ref")))


def resolve_reference(root: Schema, ref: object) -> object:
    """The target of a local reference (RFC 6901 fragment); None when it leads nowhere."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    target: object = root
    for part in ref[1:].split("/")[1:]:
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, dict):
            target = target.get(key)
        else:
            return None
    return target


# ---- the two walks -----------------------------------------------------------------------------------------


def _masked(value: object, place: Place) -> object:
    if value is None or isinstance(value, bool):
        return value
    if is_reference(value):
        return value
    if place.flagged():
        return value if value == "" else MASK
    if isinstance(value, dict):
        if _secret_object(place):
            return MASK if value else value
        pair = _named_pair(value)
        return {
            name: MASK if name == pair else _masked(child, place.property(str(name)))
            for name, child in value.items()
        }
    if isinstance(value, list):
        item = place.item()
        return [_masked(child, item) for child in value]
    return MASK if _looks_secret(value, place) else value


def _without(value: object, known: tuple[str, ...]) -> object:
    if isinstance(value, dict):
        return {name: _without(child, known) for name, child in value.items()}
    if isinstance(value, list):
        return [_without(child, known) for child in value]
    if isinstance(value, str) and not is_reference(value) and any(text in value for text in known):
        return MASK
    return value


def _secrets(value: object, place: Place) -> Iterator[str]:
    if value is None or isinstance(value, bool):
        return
    if place.flagged() or (isinstance(value, dict) and _secret_object(place)):
        yield from secret_texts(value)
    elif isinstance(value, dict):
        pair = _named_pair(value)
        for name, child in value.items():
            yield from secret_texts(child) if name == pair else _secrets(child, place.property(str(name)))
    elif isinstance(value, list):
        item = place.item()
        for child in value:
            yield from _secrets(child, item)
    elif _looks_secret(value, place):
        yield from secret_texts(value)


def _named_pair(value: dict[str, Any]) -> str | None:
    """`value` in a pair such as `{"name": "Authorization", "value": …}`, as lists of headers have them."""
    for label in ("name", "key", "header", "header_name"):
        if isinstance(value.get(label), str) and "value" in value and secret_name(value[label]):
            return "value"
    return None


def _secret_object(place: Place) -> bool:
    """An object whose name is that of a secret, and of whose members the specification says nothing."""
    return secret_name(place.name) and place.undescribed()


def _looks_secret(value: object, place: Place) -> bool:
    if value == "" or place.constant(value):
        return False
    if not isinstance(value, str):  # numbers about tokens and keys are many, secret ones few
        return secret_name(place.name) and bool(_SECRET_NUMBER.search(_words(place.name)))
    return secret_name(place.name) or any(
        form.search(value) for form in (_URL_LOGIN, _PAIR, _PRIVATE_KEY, _TOKEN, _AUTHORIZATION)
    )


def secret_name(name: str) -> bool:
    """Whether a property of this name usually holds a secret."""
    words = _words(name)
    return bool(_SECRET_NAME.search(words)) and not _PLAIN_NAME.search(words)


def _words(name: str) -> str:
    return "_".join(part for part in _WORD_BREAK.split(name) if part).lower()


def secret_texts(value: object, depth: int = 0) -> Iterator[str]:
    """Every text inside a secret, and the parts of a text that are secret by themselves."""
    if value is None or isinstance(value, bool) or depth > 2 * MAX_DEPTH:
        return
    if isinstance(value, dict):
        for child in value.values():
            yield from secret_texts(child, depth + 1)
    elif isinstance(value, list):
        for child in value:
            yield from secret_texts(child, depth + 1)
    elif isinstance(value, str):
        yield value
        yield from _parts(value)
    else:
        yield str(value)


def _parts(text: str) -> Iterator[str]:
    for match in _URL_LOGIN.finditer(text):
        yield match.group(2)
        yield unquote(match.group(2))
    for match in _PAIR.finditer(text):
        yield match.group(1).strip("\"'{}")
    if authorization := _AUTHORIZATION.match(text):
        yield authorization.group(1)
    if text.lstrip().startswith("{"):
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(inner, dict):
            yield from _secrets(inner, Place({}, ()))
