"""What DataHub has to have before a job is taken: domain, tags, owner, by the policies of the deployment.

Used by the HTTP process when a job is submitted or changed, so nothing here imports `datahub`.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import msgspec

from airberg.errors import Conflict, InvalidRequest, Problem
from airberg.governance.directory import Entity, EntityDirectory, open_directory
from airberg.governance.resolve import (
    DOMAIN_PREFIX,
    GROUP_PREFIX,
    TAG_PREFIX,
    checked_domain_urn,
    domain_of_slug,
    entity_id,
    owner_urn,
)
from airberg.identity.principal import GROUP
from airberg.plan.model import GovernancePlan, IngestRequest
from airberg.plan.names import did_you_mean, nearest
from airberg.quoted import quoted

if TYPE_CHECKING:
    from airberg.governance.datahub_settings import DataHubSettings
    from airberg.settings import Settings

GOVERNED = frozenset({"domain", "tags", "owner_id"})
"""Members of a request that are resolved."""
NO_PERSON = (GROUP, "urn:")
"""How the names of groups and urns begin, which no claim of a person's may become."""


class Policies:
    """Resolves what a job asks for.

    Args:
        settings: The policies, and how users are called.
        directory: What DataHub has; None: there is no DataHub, and everything is taken at its word.
    """

    def __init__(self, settings: DataHubSettings, directory: EntityDirectory | None) -> None:
        self._settings = settings
        self._directory = directory

    def resolve(
        self,
        request: IngestRequest,
        *,
        user: str | None = None,
        before: GovernancePlan | None = None,
        changed: AbstractSet[str] = GOVERNED,
    ) -> GovernancePlan:
        """What DataHub calls the domain, the tags and the owner of a request.

        Args:
            request: The request.
            user: How a claim of the owner's own token calls him in DataHub, if one does.
            before: What the job had; what has not changed stays so, and is not looked for again.
            changed: Members of the request that are new.

        Raises:
            InvalidRequest: With all that DataHub lacks, or cannot have.
            Conflict: Several domains, or tags, have the name.
            Unavailable: DataHub has to be asked, and does not answer.
        """
        new = GOVERNED if before is None else changed & GOVERNED
        found = before or GovernancePlan()
        problems: list[Problem] = []
        if "owner_id" in new:
            owner = self.user_id(request.owner_id, user)
            found = msgspec.structs.replace(found, owner=owner)
            problems += self._owner_problems(owner)
        if "tags" in new:
            tags, unknown = self._tags(request.tags)
            found = msgspec.structs.replace(found, tags=tags)
            problems += unknown
        if "domain" in new:
            try:
                domain = self.domain(request.domain) if request.domain else None
                found = msgspec.structs.replace(found, domain=domain)
            except InvalidRequest as error:
                problems += error.problems
        if problems:
            raise InvalidRequest(problems)
        return found

    def with_domain(self, request: IngestRequest) -> GovernancePlan:
        """As `resolve`, for a job that is there: owner and tags are taken as they are."""
        domain = self.domain(request.domain) if request.domain else None
        return GovernancePlan(domain=domain, tags=request.tags, owner=request.owner_id)

    def user_id(self, owner_id: str, user: str | None = None) -> str:
        """The id that an owner has in DataHub; groups and urns are what they are.

        What the expression does not fit stays as it is: who has such a name cannot sign in there.
        """
        if owner_id.startswith(NO_PERSON):
            return owner_id
        name = owner_id if not user or user.startswith(NO_PERSON) else user
        match = re.search(self._settings.user_claim_regex, name)
        found = match[0].strip() if match else ""
        return name if not found or found.startswith(NO_PERSON) else found

    # ---- domains -----------------------------------------------------------------------------------------

    def domain(self, text: str) -> str:
        """The urn of the domain that `text` names by its urn, its id or its exact name.

        Without DataHub, and of one that is to be made (`domain_policy`), it is made of the text.

        Raises:
            InvalidRequest: There is none (`unknown-domain`) or the urn is malformed (`bad-domain-urn`);
                the pointer is `/domain`.
            Conflict: Several have that name (`ambiguous-domain`); the message has their urns.
            Unavailable: DataHub does not answer.
        """
        text = text.strip()
        if self._directory is None:
            return checked_domain_urn(text) if text.startswith("urn:") else domain_of_slug(text)
        if text.startswith("urn:"):
            urn = checked_domain_urn(text)
            if urn in self._directory.existing([urn]):
                return urn
            raise self._no_domain(text, self._directory.entities("domain"))
        return self._domain_by_name(self._directory, text)

    def _domain_by_name(self, directory: EntityDirectory, text: str) -> str:
        made = domain_of_slug(text) if self._settings.domain_policy == "create" else None
        # A domain that was just made is in the store before it is in the search index.
        by_id = [DOMAIN_PREFIX + text] if re.fullmatch(r"[\w.:-]+", text) else []
        there = directory.existing([*by_id, *([made] if made else [])])
        known = directory.entities("domain")
        hits = {d.urn for d in known if text in (d.name, d.urn.removeprefix(DOMAIN_PREFIX))}
        hits |= there.intersection(by_id)
        if len(hits) > 1:
            raise _ambiguous("domain", text, hits, code="ambiguous-domain")
        if hits:
            return hits.pop()
        if made is None or made in there:  # of another name: who means that one names it as it is called
            raise self._no_domain(text, known)
        return made

    def _no_domain(self, text: str, known: list[Entity]) -> InvalidRequest:
        guidance = did_you_mean(text, {d.name for d in known if d.name})
        if self._settings.domain_policy == "create" and text.startswith("urn:"):
            guidance = f"{guidance} To have one made, give its name.".strip()
        found = f"DataHub has no domain {quoted(text)}."
        return InvalidRequest.one("/domain", "unknown-domain", found, guidance)

    # ---- tags --------------------------------------------------------------------------------------------

    def _tags(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], list[Problem]]:
        """Ids of the tags, and what is wrong with those that have to be there and are not.

        Tags that people make on a page of DataHub may have a made-up id, so the name counts too.
        """
        if self._directory is None or self._settings.tag_policy == "create":
            return names, []
        there = self._directory.existing([TAG_PREFIX + name for name in names])
        if all(TAG_PREFIX + name in there for name in names):
            return names, []
        known = self._directory.entities("tag")
        problems, found = list[Problem](), list[str]()
        for name in names:
            if TAG_PREFIX + name in there:
                found.append(name)
                continue
            hits = {tag.urn.removeprefix(TAG_PREFIX) for tag in known if tag.name == name}
            if len(hits) > 1:
                raise _ambiguous("tag", name, {TAG_PREFIX + hit for hit in hits}, code="ambiguous-tag")
            if hits:
                found.append(hits.pop())
                continue
            names_there = {tag.name or tag.urn.removeprefix(TAG_PREFIX) for tag in known}
            guidance = did_you_mean(name, names_there)
            problems.append(Problem("/tags", "unknown-tag", f"DataHub has no tag {quoted(name)}.", guidance))
        return tuple(dict.fromkeys(found)), problems

    # ---- owners ------------------------------------------------------------------------------------------

    def _owner_problems(self, owner: str) -> list[Problem]:
        if self._directory is None or self._settings.owner_policy == "any":
            return []
        urn = owner_urn(owner)
        if urn in self._directory.existing([urn]):
            return []
        is_group = urn.startswith(GROUP_PREFIX)
        word = "group" if is_group else "user"
        # No list of them: who asks need not know who else is there.
        known = {entity_id(e.urn) for e in self._directory.entities("group" if is_group else "user")}
        near = nearest(entity_id(urn), known)
        hint = f"Did you mean {quoted(near)}? " if near else ""
        way = "Have it made there." if is_group else "Users are there once they have signed in to DataHub."
        return [
            Problem(
                "/owner_id",
                "unknown-owner",
                f"DataHub has no {word} {quoted(entity_id(urn))}.",
                f"{hint}{way}",
            )
        ]


def open_policies(settings: Settings) -> Policies:
    """The policies of a deployment, and the DataHub that they look into."""
    return Policies(settings.datahub, open_directory(settings))


def _ambiguous(kind: str, text: str, urns: AbstractSet[str], *, code: str) -> Conflict:
    found = f"The {kind} {quoted(text)} is ambiguous: {', '.join(sorted(urns))}."
    return Conflict(found, guidance="Name it by its urn.", code=code)
