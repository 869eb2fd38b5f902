"""What changes for a configuration between two versions of a connector."""

from __future__ import annotations

from collections.abc import Iterator

from airberg.sources.config_fields import ConfigField, Schema, config_fields


def spec_changes(old: Schema, new: Schema) -> list[str]:
    """The fields that are added, removed, newly required, or of another type; one line each.

    Lines begin with `+`, `-` or `~`. Titles and descriptions are left out: they change no configuration.
    """
    before = {(field.path, field.when): field for field in config_fields(old)}
    after = {(field.path, field.when): field for field in config_fields(new)}
    added = [f"+ {_text(after[key])}" for key in after if key not in before]
    removed = [f"- {_text(before[key])}" for key in before if key not in after]
    changed = [line for key in after if key in before for line in _changes(before[key], after[key])]
    return [*added, *removed, *changed]


def _text(field: ConfigField) -> str:
    words = [
        f"{_name(field)} {field.type}",
        "required" if field.required else "",
        "secret" if field.secret else "",
    ]
    return ", ".join(word for word in words if word)


def _name(field: ConfigField) -> str:
    return f"{field.path} (with {field.when})" if field.when else field.path


def _changes(old: ConfigField, new: ConfigField) -> Iterator[str]:
    name = _name(new)
    if old.type != new.type:
        yield f"~ {name} {old.type} becomes {new.type}"
    if old.required != new.required:
        yield f"~ {name} {'is required now' if new.required else 'may be left out now'}"
    if old.secret != new.secret:
        yield f"~ {name} {'is a secret now' if new.secret else 'is no secret any more'}"
    if old.enum != new.enum:
        gone = [value for value in old.enum or () if value not in (new.enum or ())]
        if new.enum is not None and (old.enum is None or gone):
            yield f"~ {name} must be one of {', '.join(map(str, new.enum[:20]))}"
