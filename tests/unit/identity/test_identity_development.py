"""The development issuer: same verifier, this machine only."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from airberg.errors import ConfigurationFailed, NotAuthenticated
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.settings import ApiSettings, AuthSettings, Settings


def key_file(home: Path) -> Path:
    """Where the key is kept."""
    return home / "secrets" / "dev-issuer.pem"


def test_its_tokens_are_good(tmp_path: Path) -> None:
    """What it mints is verified like any issuer's token, with scopes and extra claims."""
    settings = Settings(home=tmp_path)
    issuer = DevelopmentIssuer(settings)
    token = issuer.mint("ann", ["ingest:read"], 60, roles=["ingest-admin"], email="ann@example.com")
    caller = build_verifier(settings).verify(token)
    assert (caller.subject, caller.scopes, caller.owner_id) == ("ann", {"ingest:read"}, "ann@example.com")
    assert caller.is_admin
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


def test_its_key_stays_and_is_private(tmp_path: Path) -> None:
    """Tokens survive a restart; file and folder are for their owner alone."""
    settings = Settings(home=tmp_path)
    token = DevelopmentIssuer(settings).mint("ann", [])
    assert build_verifier(settings).verify(token).subject == "ann"
    assert stat.S_IMODE(key_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file(tmp_path).parent.stat().st_mode) == 0o700
    assert [p.name for p in key_file(tmp_path).parent.iterdir()] == ["dev-issuer.pem"]


def test_several_starts_at_once_agree_on_a_key(tmp_path: Path) -> None:
    """Whoever comes first makes the key, all others use it."""
    settings = Settings(home=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        issuers = list(pool.map(lambda _: DevelopmentIssuer(settings), range(8)))
    verifier = build_verifier(settings)
    assert {verifier.verify(i.mint("ann", [])).subject for i in issuers} == {"ann"}


def test_another_homes_tokens_are_refused(tmp_path: Path) -> None:
    """Each deployment has a key of its own."""
    token = DevelopmentIssuer(Settings(home=tmp_path / "a")).mint("ann", [])
    with pytest.raises(NotAuthenticated):
        build_verifier(Settings(home=tmp_path / "b")).verify(token)


def test_tokens_expire(tmp_path: Path) -> None:
    """A lifetime that is over (by more than the leeway) is over."""
    settings = Settings(home=tmp_path)
    token = DevelopmentIssuer(settings).mint("ann", [], -31)
    with pytest.raises(NotAuthenticated, match="expired"):
        build_verifier(settings).verify(token)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "airberg.example", "127.0.0.1.example"])  # noqa: S104 - that is what is refused
def test_it_refuses_to_be_reachable(tmp_path: Path, host: str) -> None:
    """With an API that other machines reach, neither issuer nor verifier starts, and no key is made."""
    settings = Settings(home=tmp_path, api=ApiSettings(host=host))
    for start in (DevelopmentIssuer, build_verifier):
        with pytest.raises(ConfigurationFailed) as e:
            start(settings)
        assert e.value.code == "development-issuer-exposed"
    assert not key_file(tmp_path).exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_it_serves_the_loopback(tmp_path: Path, host: str) -> None:
    """All names of this machine alone are fine."""
    assert DevelopmentIssuer(Settings(home=tmp_path, api=ApiSettings(host=host))).mint("ann", [])


def test_it_is_off_with_another_issuer(tmp_path: Path) -> None:
    """A deployment with an issuer of its own mints nothing."""
    auth = AuthSettings(mode="oidc", issuer="https://issuer.example")
    with pytest.raises(ConfigurationFailed) as e:
        DevelopmentIssuer(Settings(home=tmp_path, auth=auth))
    assert e.value.code == "no-development-issuer"


def test_its_own_claims_cannot_be_given(tmp_path: Path) -> None:
    """Issuer, audience and times are the issuer's to say."""
    with pytest.raises(ValueError, match="aud"):
        DevelopmentIssuer(Settings(home=tmp_path)).mint("ann", [], aud="other")


RSA_PEM = rsa.generate_private_key(65537, 2048).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


@pytest.mark.parametrize("content", [b"", b"nonsense", RSA_PEM], ids=["empty", "nonsense", "rsa"])
def test_a_broken_key_file_is_told(tmp_path: Path, content: bytes) -> None:
    """A file that is no EC key is not replaced silently: tokens would stop working without a word."""
    key_file(tmp_path).parent.mkdir()
    key_file(tmp_path).touch(mode=0o600)
    key_file(tmp_path).write_bytes(content)
    with pytest.raises(ConfigurationFailed) as e:
        DevelopmentIssuer(Settings(home=tmp_path))
    assert e.value.code == "bad-development-key"
    assert key_file(tmp_path).read_bytes() == content


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Who can read the key can be anybody."""
    settings = Settings(home=tmp_path)
    DevelopmentIssuer(settings)
    key_file(tmp_path).chmod(0o640)
    with pytest.raises(ConfigurationFailed, match="other users"):
        DevelopmentIssuer(settings)
