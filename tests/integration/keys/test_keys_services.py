"""What key services may answer, and what becomes of it; each through its real client library."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from airberg.errors import AirbergError, ConfigurationFailed, Unavailable
from airberg.keys.kek import Kek
from airberg.settings import KeySettings
from support.gcp_kms_double import GcpKmsDouble, running_gcp_kms
from support.json_double import Answer, json_server
from support.kek_cases import gcp_address, opened, vault_address
from support.pages import Page
from support.softhsm import PIN, SoftHsm
from support.softhsm import TOKEN as TOKEN_LABEL
from support.vault_double import ROLE_ID, SECRET_ID, TOKEN, VaultDouble, running_vault

DEK = b"d" * 32
CONTEXT = {"name": "crm", "version": "1", "id": "7"}
PAGE = Page("docs/how-to/key-management.md")


def failure(kek: Kek, blob: bytes | None = None) -> AirbergError:
    """What wrapping, or unwrapping of a blob, fails with."""
    with pytest.raises((ConfigurationFailed, Unavailable)) as e:
        kek.wrap(DEK, CONTEXT) if blob is None else kek.unwrap(blob, CONTEXT)
    assert DEK.decode() not in e.value.sentence()
    return e.value


def works(kek: Kek) -> bool:
    """Whether a key opens what it has wrapped."""
    return kek.unwrap(kek.wrap(DEK, CONTEXT), CONTEXT) == DEK


# ---- AWS KMS -----------------------------------------------------------------------------------------------


@contextmanager
def answering_aws(*answers: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a service that gives these answers, the last for ever, and the requests that came."""
    left, requests = list(answers), []

    def handle(path: str, headers: Message, body: dict[str, Any]) -> Answer:
        requests.append(body)
        return left.pop(0) if len(left) > 1 else left[0]

    with json_server(handle) as url:
        yield f"aws-kms://alias/airberg?region=eu-west-1&endpoint={url}", requests


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment; nobody else is asked for some."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    no_other_credentials(monkeypatch)


def no_other_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither files nor the machine's metadata service are looked at."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("IncorrectKeyException", "cannot-unwrap-key"),
        ("InvalidCiphertextException", "cannot-unwrap-key"),
        ("AccessDeniedException", "kek-refused"),
        ("ExpiredTokenException", "kek-refused"),
        ("InvalidGrantTokenException", "kek-refused"),
        ("SomethingNew", "kek-refused"),
        ("NotFoundException", "kek-unusable"),
        ("DisabledException", "kek-unusable"),
        ("KMSInvalidStateException", "kek-unusable"),
        ("ThrottlingException", "kek-unavailable"),
        ("LimitExceededException", "kek-unavailable"),
        ("DependencyTimeoutException", "kek-unavailable"),
        ("KeyUnavailableException", "kek-unavailable"),
        (500, "kek-unavailable"),
        (503, "kek-unavailable"),
    ],
)
def test_answers_of_aws(answer: str | int, code: str) -> None:
    """By the error codes of its reference; the text of an answer is not repeated."""
    body = (answer, {}) if isinstance(answer, int) else (400, {"__type": answer, "message": "free text"})
    with answering_aws(body) as (address, requests):
        found = failure(opened(KeySettings(kek=address, kek_attempts=1)), b"blob")
    assert found.code == code
    assert "free text" not in found.sentence()
    assert requests == [
        {
            "KeyId": "alias/airberg",
            "CiphertextBlob": base64.b64encode(b"blob").decode(),
            "EncryptionContext": CONTEXT,
        }
    ]


@pytest.mark.usefixtures("aws_credentials")
def test_aws_is_asked_again_when_it_throttles() -> None:
    """As often as the settings say."""
    throttled = (400, {"__type": "ThrottlingException"})
    answer = (200, {"Plaintext": base64.b64encode(DEK).decode(), "KeyId": "x"})
    with answering_aws(throttled, answer) as (address, requests):
        assert opened(KeySettings(kek=address, kek_attempts=2)).unwrap(b"blob", CONTEXT) == DEK
        assert len(requests) == 2


def test_no_credentials_for_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent."""
    no_other_credentials(monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with answering_aws((200, {})) as (address, requests):
        assert failure(opened(KeySettings(kek=address))).code == "kek-refused"
        assert failure(opened(KeySettings(kek=f"{address}&profile=nobody"))).code == "kek-refused"
    assert requests == []


# ---- Vault -------------------------------------------------------------------------------------------------


@pytest.fixture
def vault() -> Iterator[VaultDouble]:
    """A Vault with the policy of the documentation."""
    [policy] = [
        b.text for b in PAGE.blocks if "transit/encrypt/airberg" in b.text and "capabilities" in b.text
    ]
    with running_vault() as double:
        lines = [line for line in policy.splitlines() if "capabilities" in line]
        assert all('["update"]' in line for line in lines)
        double.policy = frozenset(line.split('"')[1] for line in lines)
        yield double


def vault_kek(vault: VaultDouble, key: str = "transit/airberg", more: str = "", **login: Any) -> Kek:
    """A key in the double; with a token that it knows, unless another login is given."""
    login = login or {"vault_token": SecretStr(TOKEN)}
    return opened(KeySettings(kek=vault_address(vault, key, more), kek_attempts=1, **login))


def test_the_policy_of_the_documentation_is_enough_for_vault(vault: VaultDouble) -> None:
    """It allows the key that it names, and no other."""
    assert works(vault_kek(vault))
    assert failure(vault_kek(vault, "transit/other")).code == "kek-refused"


def test_places_in_vault(vault: VaultDouble) -> None:
    """Keys, mounts and namespaces that are not there; those that are."""
    vault.policy = None
    vault.add_key("deep", mount="team/transit", namespace="admin")
    assert works(vault_kek(vault, "team/transit/deep", "&namespace=admin"))
    assert failure(vault_kek(vault, "team/transit/deep")).code == "kek-unusable"
    assert failure(vault_kek(vault, "transit/none")).code == "kek-unusable"
    assert failure(vault_kek(vault, "transit/none"), b"vault:v1:AAAA").code == "kek-unusable"
    assert failure(vault_kek(vault, "nowhere/airberg")).code == "kek-unusable"


@pytest.mark.parametrize("status", [412, 429, 500, 502, 503])
def test_a_vault_that_cannot_answer(vault: VaultDouble, status: int) -> None:
    """Sealed, over a quota, or broken: it may pass."""
    vault.failing = status
    assert failure(vault_kek(vault)).code == "kek-unavailable"
    assert len(vault.calls) == 1


def test_vault_is_asked_again(vault: VaultDouble) -> None:
    """As often as the settings say."""
    vault.failing, vault.failures = 503, 1
    keys = KeySettings(kek=vault_address(vault), kek_attempts=2, vault_token=SecretStr(TOKEN))
    assert works(opened(keys))


def test_a_vault_that_ignores_associated_data(vault: VaultDouble) -> None:
    """Every record would open in any place: the first wrapping finds it."""
    vault.ignores_associated_data = True
    found = failure(vault_kek(vault))
    assert found.code == "kek-unusable"
    assert "associated data" in found.message


def test_wrapping_again_asks_once(vault: VaultDouble) -> None:
    """That the context is bound is looked at the first time only."""
    kek = vault_kek(vault)
    kek.wrap(DEK, CONTEXT)
    asked = len(vault.calls)
    kek.wrap(DEK, CONTEXT)
    assert len(vault.calls) == asked + 1


def test_approle(vault: VaultDouble) -> None:
    """It logs in once, and again when its token has expired; a wrong secret id is refused."""
    login = {"vault_role_id": ROLE_ID, "vault_secret_id": SecretStr(SECRET_ID)}
    vault.tokens.clear()
    kek = vault_kek(vault, **login)
    assert works(kek)
    vault.tokens.clear()
    assert works(kek)
    assert vault.calls.count("/v1/auth/approle/login") == 2
    wrong = failure(vault_kek(vault, **(login | {"vault_secret_id": SecretStr("wrong-secret")})))
    assert wrong.code == "kek-refused"
    assert "wrong-secret" not in wrong.sentence()
    assert failure(vault_kek(vault, more="&approle_mount=other", **login)).code == "kek-refused"


def test_a_token_file_is_read_each_time(vault: VaultDouble, tmp_path: Path) -> None:
    """Vault's agent, say, writes a new token before the old one expires."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    kek = vault_kek(vault, more=f"&token_file={path}", vault_token=SecretStr("another"))
    assert works(kek)
    vault.tokens = {"hvs.second"}
    assert failure(kek).code == "kek-refused"
    path.write_text("hvs.second")
    assert works(kek)
    path.unlink()
    assert failure(kek).code == "kek-refused"


def test_the_token_of_the_environment(vault: VaultDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hvac knows by itself."""
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    assert works(vault_kek(vault, vault_token=None))


@pytest.mark.parametrize("answer", [{}, [], {"data": None}, {"data": {"plaintext": "?"}}])
def test_something_that_is_no_vault(answer: Any) -> None:
    """Its answers are not taken for keys."""
    with json_server(lambda *_: (200, answer)) as url:
        keys = KeySettings(
            kek=f"vault-transit://v.example.com/transit/a?endpoint={url}", vault_token=SecretStr(TOKEN)
        )
        assert failure(opened(keys), b"vault:v1:AAAA").code == "kek-unavailable"


# ---- Google Cloud KMS --------------------------------------------------------------------------------------


@pytest.fixture
def gcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcpKmsDouble]:
    """A double, with the credentials of its service account."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with running_gcp_kms() as double:
        account = double.write_account(tmp_path / "account.json")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        yield double


def gcp_kek(kms: GcpKmsDouble, key: str = "airberg", attempts: int = 1) -> Kek:
    """A key in the double."""
    return opened(KeySettings(kek=gcp_address(kms, key), kek_attempts=attempts))


@pytest.mark.parametrize(
    "member",
    [
        "ciphertext",
        "ciphertextCrc32c",
        "verifiedPlaintextCrc32c",
        "verifiedAdditionalAuthenticatedDataCrc32c",
        "name",
    ],
)
def test_an_encryption_that_was_changed_on_its_way(gcp: GcpKmsDouble, member: str) -> None:
    """It is not stored."""
    gcp.corrupted = member
    assert failure(gcp_kek(gcp)).code == "kek-unavailable"


@pytest.mark.parametrize("member", ["plaintext", "plaintextCrc32c"])
def test_a_decryption_that_was_changed_on_its_way(gcp: GcpKmsDouble, member: str) -> None:
    """It is not used."""
    kek = gcp_kek(gcp)
    blob = kek.wrap(DEK, CONTEXT)
    gcp.corrupted = member
    assert failure(kek, blob).code == "kek-unavailable"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "kek-unusable"),
        (401, "kek-refused"),
        (403, "kek-refused"),
        (404, "kek-unusable"),
        (429, "kek-unavailable"),
        (500, "kek-unavailable"),
        (503, "kek-unavailable"),
        (504, "kek-unavailable"),
    ],
)
def test_answers_of_gcp(gcp: GcpKmsDouble, status: int, code: str) -> None:
    """By their status; asked once, for the settings say so, or thrice to get new tokens after a 401."""
    gcp.failing = status
    assert failure(gcp_kek(gcp)).code == code
    assert len(gcp.calls) == (3 if status == 401 else 1)


def test_gcp_is_asked_again(gcp: GcpKmsDouble) -> None:
    """As often as the settings say."""
    gcp.failing, gcp.failures = 503, 1
    assert works(gcp_kek(gcp, attempts=2))


def test_no_credentials_for_gcp(gcp: GcpKmsDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there, or holds something else."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert failure(gcp_kek(gcp)).code == "kek-refused"
    (tmp_path / "none.json").write_text("{}")
    assert failure(gcp_kek(gcp)).code == "kek-refused"
    assert failure(gcp_kek(gcp, "none")).code == "kek-refused"
    assert gcp.calls == []


# ---- PKCS#11 -----------------------------------------------------------------------------------------------


def hsm_kek(address: str, pin: str | None = PIN) -> Kek:
    """A key in a token."""
    return opened(KeySettings(kek=address, pkcs11_pin=None if pin is None else SecretStr(pin)))


def test_keys_in_a_token(softhsm: SoftHsm) -> None:
    """One of a label, or one of an id; none that could be taken out."""
    assert works(hsm_kek(softhsm.address()))
    assert works(hsm_kek(softhsm.address("twins", more="&id=04")))
    for address, why in (
        (softhsm.address("none"), "no secret key"),
        (softhsm.address("twins"), "2 keys"),
        (softhsm.address("airberg", more="&id=04"), "no secret key"),
        (softhsm.address("loose"), "can be taken out"),
    ):
        found = failure(hsm_kek(address))
        assert (found.code, why in found.message) == ("kek-unusable", True)


def test_the_key_of_the_documentation(softhsm: SoftHsm) -> None:
    """Made as the page shows it, it wraps."""
    [text] = [b.text for b in PAGE.blocks if "generate_key" in b.text]
    mine = (
        ("/usr/lib/softhsm/libsofthsm2.so", softhsm.module),
        ('"Airberg"', repr(TOKEN_LABEL)),
        ("1234", PIN),
    )
    for shown, real in mine:
        assert shown in text
        text = text.replace(shown, real)
    exec(compile(text, "key-management.md", "exec"), {})  # noqa: S102
    assert works(hsm_kek(softhsm.address("data-keys")))


def test_twins_do_not_open_for_each_other(softhsm: SoftHsm) -> None:
    """The id chooses."""
    blob = hsm_kek(softhsm.address("twins", more="&id=03")).wrap(DEK, CONTEXT)
    assert failure(hsm_kek(softhsm.address("twins", more="&id=04")), blob).code == "cannot-unwrap-key"


def test_pins(softhsm: SoftHsm, tmp_path: Path) -> None:
    """None, one in a file, a file that is not there."""
    assert failure(hsm_kek(softhsm.address(), None)).code == "kek-refused"
    (tmp_path / "pin").write_text(f"{PIN}\n")
    assert works(hsm_kek(softhsm.address(more=f"&pin_file={tmp_path / 'pin'}"), "another"))
    assert failure(hsm_kek(softhsm.address(more="&pin_file=/none"))).code == "kek-refused"


def test_a_wrong_pin_is_tried_once(softhsm: SoftHsm, tmp_path: Path) -> None:
    """Tokens lock after a few tries. The right one, when it comes, is tried."""
    (tmp_path / "pin").write_text("wrong")
    kek = hsm_kek(softhsm.address(more=f"&pin_file={tmp_path / 'pin'}"))
    import pkcs11

    with pytest.MonkeyPatch.context() as patch:
        loads: list[str] = []
        load = pkcs11.lib
        patch.setattr(pkcs11, "lib", lambda so: (loads.append(so), load(so))[1])
        for _ in range(3):
            assert failure(kek).code == "kek-refused"
        assert len(loads) == 1
    (tmp_path / "pin").write_text(PIN)
    assert works(kek)


@pytest.mark.parametrize("module", ["/none.so", "/usr/lib/os-release"])
def test_a_module_that_is_none(module: str) -> None:
    """It says so."""
    found = failure(hsm_kek(f"pkcs11://token/key?module={module}"))
    assert (found.code, "module" in found.message) == ("kek-unusable", True)


def test_many_threads_use_one_token(softhsm: SoftHsm) -> None:
    """The HTTP process has several; a login belongs to all of them."""
    keks = [hsm_kek(softhsm.address()), hsm_kek(softhsm.address("other"))]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda n: works(keks[n % 2]), range(32)))


# ---- TLS ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("aws_credentials", "gcp")
@pytest.mark.parametrize("place", ["aws-kms", "vault-transit", "gcp-kms"])
def test_a_service_without_tls_to_trust(place: str, gcp: GcpKmsDouble) -> None:
    """Nothing is sent."""
    with json_server(lambda *_: (200, {})) as url:
        url = url.replace("http:", "https:")
        address = {
            "aws-kms": f"aws-kms://alias/airberg?region=eu-west-1&endpoint={url}",
            "vault-transit": f"vault-transit://v.example.com/transit/airberg?endpoint={url}",
            "gcp-kms": gcp_address(gcp, url=url),
        }[place]
        keys = KeySettings(kek=address, kek_attempts=1, vault_token=SecretStr(TOKEN))
        assert failure(opened(keys)).code == "kek-unusable"
