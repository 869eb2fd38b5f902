"""Login at Airflow: a token for a password, fetched when needed and again when it has run out."""

from __future__ import annotations

import threading
from collections.abc import Generator

import httpx

from airberg.errors import Unavailable
from airberg.flows.credentials import AirflowCredentials


class AirflowLogin(httpx.Auth):
    """Puts a bearer token on every request (`POST /auth/token`, the same for all of Airflow's auth managers).

    Args:
        base_url: Address of Airflow.
        username: Whom to log in.
        credentials: Password; or a static token, then nobody is logged in.

    Raises:
        Unavailable: (from a request) Airflow does not let us in.
    """

    requires_response_body = True

    def __init__(self, base_url: str, username: str, credentials: AirflowCredentials) -> None:
        self._url = f"{base_url.rstrip('/')}/auth/token"
        self._username = username
        self._password = credentials.password
        self._static = credentials.token
        self._token: str | None = None
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """One request with, if needed, a login before it and another one after a 401."""
        if self._static:
            request.headers["Authorization"] = f"Bearer {self._static}"
            answer = yield request
            if answer.status_code == 401:
                raise _refused("the token", "AIRBERG_AIRFLOW__TOKEN")
            return
        token = self._token or (yield from self._login(request, None))
        request.headers["Authorization"] = f"Bearer {token}"
        answer = yield request
        if answer.status_code == 401:
            token = yield from self._login(request, token)
            request.headers["Authorization"] = f"Bearer {token}"
            answer = yield request
            if answer.status_code == 401:
                raise _refused(f"the user {self._username!r}", "AIRBERG_AIRFLOW__USERNAME")

    def _login(
        self, request: httpx.Request, spent: str | None
    ) -> Generator[httpx.Request, httpx.Response, str]:
        """A token that is not the spent one; of several threads, one logs in and the others use its token."""
        with self._lock:
            if self._token is not None and self._token != spent:
                return self._token
            body = {"username": self._username, "password": self._password}
            # A request made here has no time-out unless it takes over that of the one it is made for.
            answer = yield httpx.Request("POST", self._url, json=body, extensions=dict(request.extensions))
            if answer.status_code in (400, 401, 403, 422):
                raise _refused(f"the user {self._username!r}", "AIRBERG_AIRFLOW__PASSWORD")
            try:
                token = answer.json()["access_token"] if answer.is_success else None
            except (ValueError, KeyError, TypeError):
                token = None
            if not isinstance(token, str):
                raise Unavailable(
                    f"Airflow answered {answer.status_code} to the login.", code="orchestrator-refused"
                )
            self._token = token
            return token


def _refused(whom: str, setting: str) -> Unavailable:
    return Unavailable(
        f"Airflow does not let {whom} in.", guidance=f"Check {setting}.", code="orchestrator-login-refused"
    )
