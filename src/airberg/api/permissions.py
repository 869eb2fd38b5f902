"""What a caller may ask for in a job: an owner, groups to share it with, a schema to write to.

What is written is decided by the owner of the job, not by the caller: an administrator who makes one for
somebody must not open to it what its owner may not use. Keys (`airberg.keys.access`) and references to
secrets (`airberg.sources.references`) go by the same owner and roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from airberg.errors import InvalidRequest, NotAllowed, Problem
from airberg.identity.access_settings import AccessSettings, matches
from airberg.identity.principal import GROUP, Principal
from airberg.plan.model import IngestRequest
from airberg.quoted import quoted


def owner_of(asked: str | None, caller: Principal) -> str:
    """The owner of a new job: the caller, a group of the caller's, or whom an administrator names.

    Raises:
        NotAllowed: The caller names somebody else and lacks the role `ingest-admin`.
    """
    if asked is None or caller.is_admin or _is_own(asked, caller):
        return asked or caller.owner_id
    if (group := _group_of(asked)) is not None and group in caller.groups:
        return asked
    raise NotAllowed(
        "Only the role ingest-admin may set another owner_id.",
        guidance="Leave owner_id out to own the job, or give `group:` and a group of yours.",
    )


def _is_own(owner_id: str, caller: Principal) -> bool:
    """Whether that is a name of the caller's; a subject that looks like a group is none."""
    return _group_of(owner_id) is None and owner_id in (caller.owner_id, caller.subject)


def datahub_user(owner_id: str, caller: Principal) -> str | None:
    """What DataHub makes the owner's user id of, where that is the caller and the access token says it."""
    return caller.datahub_user if _is_own(owner_id, caller) else None


def _group_of(owner_id: str) -> str | None:
    """The group that owns, if a group does."""
    return owner_id.removeprefix(GROUP) if owner_id.startswith(GROUP) else None


def owner_roles(owner_id: str, caller: Principal) -> frozenset[str]:
    """The roles of a job's owner: the caller's, if that is the owner; of a group, the group itself.

    Who else is named as the owner brings no roles along, as nobody vouches for them.
    """
    if _is_own(owner_id, caller):
        return caller.roles
    group = _group_of(owner_id)
    return frozenset() if group is None else frozenset({group})


def shared_with(owner_id: str, groups: Iterable[str]) -> tuple[str, ...]:
    """The groups that a job is shared with: those, and the one that owns it."""
    owning = _group_of(owner_id)
    return tuple(dict.fromkeys([*groups, *([] if owning is None else [owning])]))


def check_sharing(
    groups: Sequence[str], caller: Principal, pointer: str, *, kept: Sequence[str] = ()
) -> None:
    """Refuse to share a job with groups that the caller is not in; an administrator may name any.

    Args:
        pointer: JSON pointer of the list in the body.
        kept: Groups that it is shared with already.

    Raises:
        InvalidRequest: With an entry for each such group.
    """
    foreign = (
        [] if caller.is_admin else [n for n, name in enumerate(groups) if name not in {*caller.groups, *kept}]
    )
    if foreign:
        raise InvalidRequest(
            [
                Problem(
                    f"{pointer}/{n}",
                    "group-not-yours",
                    f"You are not in the group {quoted(groups[n])}.",
                    "Share with roles and groups that your access token names.",
                )
                for n in foreign
            ]
        )


def check_schema(access: AccessSettings, request: IngestRequest, caller: Principal) -> None:
    """Refuse a schema that the job's owner may not write to.

    Raises:
        InvalidRequest: With the code `schema-not-allowed`.
    """
    own = _is_own(request.owner_id, caller)
    owner = {request.owner_id, caller.key} if own else {request.owner_id}
    writable = access.writable(owner, owner_roles(request.owner_id, caller))
    if matches(request.schema_name, writable):
        return
    where = f"Choose from {', '.join(map(quoted, writable))}." if writable else "Ask who runs this service."
    raise InvalidRequest.one(
        "/schema_name",
        "schema-not-allowed",
        f"Jobs of {quoted(request.owner_id)} may not write to the schema {quoted(request.schema_name)}.",
        where,
    )
