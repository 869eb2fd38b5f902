"""A certified OpenID provider as a process: real client credentials, real logins, real keys.

with running_provider(folder) as provider:
    token = provider.program_token("loader")
    tokens = provider.login("alice")      # authorization code with PKCE, through the provider's own pages
    provider.restart("k2")                # the same address, new keys
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx

from support.pages import ROOT

FOLDER = ROOT / ".build" / "oidc-provider"
SCRIPT = ROOT / "tests" / "oidc-provider" / "issuer.mjs"
CLIENT = "airberg"
REDIRECT = "http://127.0.0.1:9999/callback"
STARTS, START_WITHIN_S = 3, 30.0
EVERYTHING = "openid email ingest:read ingest:write"


class NoProvider(Exception):
    """There is no provider on this machine; the message says what is missing."""


class OidcProvider:
    """The process and what it gives out."""

    def __init__(self) -> None:
        self.issuer = ""
        self.other_issuer = ""
        self.audiences: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None

    def start(self, kid: str, *, elsewhere: bool = False) -> None:
        """Listen, with new keys; at the same address as before, if there was one.

        Args:
            kid: Goes into the ids of the keys.
            elsewhere: At a new address. Whoever needs the old one may find that it is taken meanwhile.
        """
        port = 0 if elsewhere else urlsplit(self.issuer).port or 0
        for _ in range(STARTS):
            self._process = subprocess.Popen(
                ["node", str(SCRIPT), str(FOLDER), str(port), kid],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert self._process.stdout is not None
            patience = threading.Timer(START_WITHIN_S, self._process.kill)  # then the line below is empty
            patience.start()
            line = self._process.stdout.readline()
            patience.cancel()
            if line:
                said = json.loads(line)
                self.issuer, self.other_issuer = said["issuer"], said["other"]
                self.audiences = said["audiences"]
                return
            self.stop()
        raise RuntimeError("the OpenID provider did not start")

    def stop(self) -> None:
        """End the process: connections are refused."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    @property
    def running(self) -> bool:
        """Whether there is a process that lives."""
        return self._process is not None and self._process.poll() is None

    def restart(self, kid: str) -> None:
        """New keys, at the same address."""
        self.stop()
        self.start(kid)

    @contextmanager
    def clock_moved(self, seconds: float) -> Iterator[None]:
        """Its clock goes wrong by so many seconds."""
        httpx.post(f"{self.issuer}/clock", content=str(seconds)).raise_for_status()
        try:
            yield
        finally:
            httpx.post(f"{self.issuer}/clock", content="0").raise_for_status()

    def program_token(
        self,
        client: str,
        scope: str = "ingest:read ingest:write",
        *,
        issuer: str | None = None,
        resource: str | None = None,
    ) -> str:
        """An access token by client credentials (RFC 6749 section 4.4)."""
        form = {"grant_type": "client_credentials", "scope": scope}
        form |= {"resource": resource} if resource else {}
        answer = httpx.post(f"{issuer or self.issuer}/token", data=form, auth=(client, "s3cret"))
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def login(self, user: str, scope: str = EVERYTHING) -> dict[str, Any]:
        """A person's tokens by authorization code with PKCE (RFC 7636), through the provider's own pages."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": CLIENT,
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "scope": scope,
            "nonce": secrets.token_hex(8),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        with httpx.Client(follow_redirects=False) as browser:
            code = self._code(browser, user, str(httpx.URL(f"{self.issuer}/auth", params=query)))
        form = {
            "grant_type": "authorization_code",
            "client_id": CLIENT,
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": verifier,
        }
        answer = httpx.post(f"{self.issuer}/token", data=form)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def _code(self, browser: httpx.Client, user: str, url: str) -> str:
        """Go from page to page until the provider sends the browser back with a code."""
        for _ in range(12):
            if url.startswith(REDIRECT):
                return parse_qs(urlsplit(url).query)["code"][0]
            answer = browser.get(url)
            if not answer.is_redirect:
                [action] = re.findall(r'<form[^>]+action="([^"]+)"', answer.text)
                [prompt] = re.findall(r'name="prompt" value="([^"]+)"', answer.text)
                form = {"prompt": prompt, "login": user, "password": "any"}
                answer = browser.post(urljoin(url, action), data=form)
            url = urljoin(url, answer.headers["location"])
        raise RuntimeError("the provider's pages lead nowhere")


@contextmanager
def running_provider() -> Iterator[OidcProvider]:
    """A provider that listens.

    Raises:
        NoProvider: Node is not here, or the provider is not installed.
    """
    if shutil.which("node") is None:
        raise NoProvider("node is not installed")
    if not Path(FOLDER, ".made").exists():
        raise NoProvider("npm is not installed, or `make .build/oidc-provider/.made` has not been run")
    provider = OidcProvider()
    provider.start("k0")
    try:
        yield provider
    finally:
        provider.stop()
