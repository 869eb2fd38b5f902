"""What the service does not take, by DataHub's own generated classes."""

from __future__ import annotations

from typing import Any

from datahub.emitter.serialization_helper import post_json_transform, pre_json_transform
from datahub.metadata.schema_classes import ASPECT_NAME_MAP, KEY_ASPECTS
from datahub.metadata.urns import Urn
from datahub.utilities.urns.error import InvalidUrnError
from datahub.utilities.urns.urn_iter import list_urns_with_path

from airberg.testing.datahub.refusal import Refused
from airberg.testing.datahub.untyped import Generated, Json


def parsed_urn(text: Json, entity_type: str | None = None) -> Generated:
    """The urn of an entity that there can be.

    Args:
        text: As it was sent.
        entity_type: What it was sent as, or None.

    Raises:
        Refused: It is none, or that of another kind of entity.
    """
    try:
        urn = Urn.from_string(text)
    except (InvalidUrnError, ValueError, AttributeError, TypeError) as error:
        raise Refused(400, f"Invalid urn {text!r}: {error}") from error
    if urn.entity_type not in KEY_ASPECTS:
        raise Refused(400, f"Unknown entity {urn.entity_type} in {text}")
    if entity_type is not None and urn.entity_type != entity_type:
        raise Refused(400, f"Urn entity type mismatch: {text} is no {entity_type}")
    return urn


def aspect_class(entity_type: str, name: Json) -> Generated:
    """The generated class of an aspect that this kind of entity has.

    Raises:
        Refused: There is no such aspect, or entities of this kind have none.
    """
    kind = ASPECT_NAME_MAP.get(name)
    if kind is None:
        raise Refused(422, f"Unknown aspect {name} for entity {entity_type}")
    key = KEY_ASPECTS[entity_type]
    if name != key.ASPECT_NAME and name not in key.ASPECT_INFO["entityAspects"]:
        raise Refused(422, f"Unknown aspect {name} for entity {entity_type}: it is one of others")
    return kind


def check_aspect(kind: Generated, urn: str, value: Json) -> None:
    """See that the value is one of the aspect, with the urns that it has in it.

    Raises:
        Refused: It has a field too many, a value of a wrong type, or a text that is no urn.
    """
    name = kind.ASPECT_NAME
    if not isinstance(value, dict):
        raise Refused(422, f"{name} of {urn}: no object")
    try:
        aspect = kind.from_obj(post_json_transform(value))
        valid = aspect.validate()
        for found, _ in list_urns_with_path(aspect):
            Urn.from_string(found)
    except (ValueError, TypeError, KeyError, AttributeError, InvalidUrnError) as error:
        raise Refused(422, f"{name} of {urn}: {error}") from error
    if not valid:
        raise Refused(422, f"{name} of {urn}: not valid")
    _same_shape(value, pre_json_transform(aspect.to_obj()), f"{name} of {urn}")


def key_of(urn: Generated) -> tuple[str, Any]:
    """Name and value of the key aspect that the service makes with the first aspect of an entity."""
    key = KEY_ASPECTS[urn.entity_type]
    return key.ASPECT_NAME, pre_json_transform(urn.to_key_aspect().to_obj())


def full_name(name: str) -> str:
    """The name of the record of an aspect, as rest.li answers it."""
    return str(ASPECT_NAME_MAP[name].RECORD_SCHEMA.fullname.replace(".pegasus2avro", ""))


def is_timeseries(kind: Generated) -> bool:
    """Whether its values are events, each kept, and not one value that is replaced."""
    return getattr(kind, "ASPECT_TYPE", "") == "timeseries"


def _same_shape(sent: Json, known: Json, at: str) -> None:
    """Refuse what the schema does not have, with the words of the service, which its client looks for."""
    if isinstance(sent, dict):
        extra = set(sent) - set(known) if isinstance(known, dict) else set(sent)
        extra = {name for name in extra if sent[name] is not None}
        if extra:
            raise Refused(422, f"{at}: unrecognized field found but not allowed {sorted(extra)}")
        for name in set(sent) & set(known if isinstance(known, dict) else ()):
            _same_shape(sent[name], known[name], f"{at}.{name}")
    elif isinstance(sent, list):
        if not isinstance(known, list) or len(sent) != len(known):
            raise Refused(422, f"{at}: no list")
        for ours, theirs in zip(sent, known, strict=True):
            _same_shape(ours, theirs, f"{at}[]")
