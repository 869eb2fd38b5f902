"""Who is let in, and how often: around the check of credentials, and what log lines know of the caller."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request

from airberg.api.envelope import add_answer_header
from airberg.api.rates import Rates, kind_of
from airberg.errors import MalformedCredentials, NotAuthenticated
from airberg.identity.principal import Principal
from airberg.logs.context import note

T = TypeVar("T")

IDS = {"job_id", "run_id"}
"""Parts of paths that log lines have too."""
_UUID = re.compile(r"[0-9a-fA-F-]{32,36}")


def admitted(request: Request, verified: Callable[[], Principal]) -> Principal:
    """The caller, if he may ask once more; the answer says how much is left to him.

    Args:
        verified: Checks the credentials of the request.

    Raises:
        TooManyRequests: There were too many requests of this caller, or too many wrong credentials from
            this address.
    """
    caller = checked(request, verified)
    note(principal=caller.key)
    for name in IDS & request.path_params.keys():
        if _UUID.fullmatch(str(request.path_params[name])):
            note(**{name: request.path_params[name]})
    rates: Rates = request.app.state.rates
    kind = kind_of(request.method, request.url.path, request.url.query)
    standing = rates.admit(caller.key, kind)
    if standing is not None:
        for name, value in standing.headers().items():
            add_answer_header(request.scope["state"], name, value)
    return caller


def checked(request: Request, verified: Callable[[], T]) -> T:
    """What the check of the credentials says; wrong ones are counted for the address.

    Raises:
        TooManyRequests: There were too many: these are not looked at.
    """
    rates: Rates = request.app.state.rates
    address = request.client.host if request.client else ""
    if "authorization" in request.headers or "authorization-psk" in request.headers:
        rates.check_address(address)
    try:
        return verified()
    except MalformedCredentials:
        rates.count_failure(address)
        raise
    except NotAuthenticated as e:
        if e.challenge is not None or "authorization-psk" in request.headers:  # there were credentials
            rates.count_failure(address)
        raise
