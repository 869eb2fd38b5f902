"""HashiCorp Vault or OpenBao: the key-value engine, version 2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airberg.errors import AirbergError, Unavailable
from airberg.service_clients import vault_client
from airberg.sources.secret_settings import SecretSettings
from airberg.sources.secret_stores import NoSuchSecret, refused
from airberg.sources.secret_stores.drivers import require_driver


def read_vault(settings: SecretSettings, name: str) -> Mapping[str, object]:
    """The newest version of a secret.

    Args:
        settings: Address and login.
        name: `MOUNT/PATH`.

    Raises:
        NoSuchSecret: There is none, or its newest version was deleted.
        ConfigurationFailed: No address, no token, not allowed, no TLS connection to trust.
        Unavailable: Vault does not answer, is sealed, or throttles.
    """
    require_driver("hvac", "vault")
    import hvac
    import requests

    mount, _, path = name.partition("/")
    try:
        client = _logged_in(settings)
        answer = client.secrets.kv.v2.read_secret_version(
            path=path, mount_point=mount, raise_on_deleted_version=True
        )
    except hvac.exceptions.InvalidPath:
        raise NoSuchSecret("there is no such secret") from None
    except hvac.exceptions.VaultError as e:
        raise _answered(e) from None
    except requests.exceptions.RequestException as e:
        raise _not_reached(e) from None
    data = answer.get("data") if isinstance(answer, dict) else None
    fields = data.get("data") if isinstance(data, dict) else None
    if not isinstance(fields, dict):
        raise refused(
            "vault", "the answer is not one of a key-value engine", "Its engine must be kv version 2."
        )
    return fields


def _logged_in(settings: SecretSettings) -> Any:  # noqa: ANN401 - hvac has no types
    client = _client(settings)
    if settings.vault_role_id is not None and settings.vault_token is None:
        secret_id = settings.vault_secret_id
        client.auth.approle.login(
            role_id=settings.vault_role_id,
            secret_id=None if secret_id is None else secret_id.get_secret_value(),
        )
    return client


def _client(settings: SecretSettings) -> Any:  # noqa: ANN401 - hvac has no types
    if settings.vault_url is None:
        raise refused("vault", "it has no address", "Set AIRBERG_SECRETS__VAULT_URL.")
    return vault_client(
        settings.vault_url,
        token=_token(settings),
        namespace=settings.vault_namespace,
        timeout_s=settings.timeout_s,
        attempts=settings.attempts,
    )


def _token(settings: SecretSettings) -> str | None:
    """None lets hvac look for one (`VAULT_TOKEN`, ~/.vault-token)."""
    if settings.vault_token is not None:
        return settings.vault_token.get_secret_value()
    if settings.vault_token_file is not None:
        try:
            return Path(settings.vault_token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise refused(
                "vault",
                f"the token file cannot be read ({type(e).__name__})",
                "AIRBERG_SECRETS__VAULT_TOKEN_FILE names a text file that this user may read.",
            ) from None
    return "" if settings.vault_role_id is not None else None


def _answered(error: Exception) -> AirbergError:
    from hvac import exceptions as e

    why = f"Vault answers {type(error).__name__}"
    if isinstance(error, e.Forbidden | e.Unauthorized | e.InvalidRequest | e.ParamValidationError):
        return refused(
            "vault", why, "Look at the login, and allow `read` on MOUNT/data/PATH to the deployment."
        )
    return _unavailable(why)


def _not_reached(error: Exception) -> AirbergError:
    from requests import exceptions as e

    kind = type(error).__name__
    if isinstance(error, e.SSLError):
        return refused("vault", "there is no TLS connection to trust", "See VAULT_CACERT.")
    if isinstance(error, e.InvalidSchema | e.InvalidURL | e.InvalidHeader | e.MissingSchema):
        return refused("vault", f"the request cannot be sent ({kind})", "Look at address and token.")
    return _unavailable(f"Vault is not reached ({kind})")


def _unavailable(why: str) -> Unavailable:
    return Unavailable(
        f"The secret store vault does not answer at the moment: {why}.",
        guidance="Try again; look at Vault if this lasts.",
        code="secrets-unavailable",
    )
