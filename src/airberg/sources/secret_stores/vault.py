"""HashiCorp Vault or OpenBao: the key-value engine, version 2, or 1 where the deployment says so.

Nothing is asked to find out the version. In version 1 a secret's address is its path alone, so that a wrong
guess would read other engines, and with them tokens and leases, under the same rule.
"""

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
        settings: Address, login, and which mounts are of version 1.
        name: `MOUNT/PATH`.

    Raises:
        NoSuchSecret: There is none, or its newest version was deleted, or the engine is of the other version.
        ConfigurationFailed: No address, no token, not allowed, no TLS connection to trust.
        Unavailable: Vault does not answer, is sealed, or throttles.
    """
    require_driver("hvac", "vault")
    import hvac
    import requests

    old = _mount_of_version_1(settings, name)
    mount, _, path = name.partition("/") if old is None else (old, "/", name[len(old) + 1 :])
    try:
        engines = _logged_in(settings).secrets.kv
        if old is not None:
            answer = engines.v1.read_secret(path=path, mount_point=mount)
        else:
            answer = engines.v2.read_secret_version(
                path=path, mount_point=mount, raise_on_deleted_version=True
            )
    except hvac.exceptions.InvalidPath:
        raise NoSuchSecret("there is no such secret") from None
    except hvac.exceptions.VaultError as e:
        raise _answered(e, f"{mount}/PATH" if old is not None else f"{mount}/data/PATH") from None
    except requests.exceptions.RequestException as e:
        raise _not_reached(e) from None
    fields = answer.get("data") if isinstance(answer, dict) else None
    if old is None:
        fields = fields.get("data") if isinstance(fields, dict) else None
    if not isinstance(fields, dict):
        raise refused(
            "vault",
            "the answer is not one of a key-value engine",
            "Its engine must be kv version 2, or 1 and named in AIRBERG_SECRETS__VAULT_KV1_MOUNTS.",
        )
    return fields


def _mount_of_version_1(settings: SecretSettings, name: str) -> str | None:
    """The mount that the name begins with, if it is one of those; the longest, as Vault itself chooses."""
    mounts = (mount.strip("/") for mount in settings.vault_kv1_mounts)
    found = [mount for mount in mounts if mount and name.startswith(f"{mount}/")]
    return max(found, key=len, default=None)


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


def _answered(error: Exception, path: str) -> AirbergError:
    from hvac import exceptions as e

    why = f"Vault answers {type(error).__name__}"
    if isinstance(error, e.Forbidden | e.Unauthorized | e.InvalidRequest | e.ParamValidationError):
        return refused("vault", why, f"Look at the login, and allow `read` on {path} to the deployment.")
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
