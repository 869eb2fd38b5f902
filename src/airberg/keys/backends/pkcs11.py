"""PKCS#11: an AES key that never leaves its token, in AES-GCM with the context as additional data.

Wrapped keys are version 1, 12 bytes of IV, ciphertext, 16 bytes of tag. The IV is ours: modules that insist
on one of their own (some in FIPS mode) cannot be used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from airberg.errors import AirbergError
from airberg.keys.address import KekAddress
from airberg.keys.backends.failures import (
    cannot_unwrap,
    kek_refused,
    kek_unavailable,
    kek_unusable,
    require,
)
from airberg.keys.kek import associated_data

_VERSION = b"\x01"
_IV_BYTES = 12
_TAG_BYTES = 16

_one_at_a_time = threading.Lock()
"""A login belongs to the process, not to a session: closing one session would log out all others."""


class Pkcs11Kek:
    """A secret key in a token, found by the labels of both (and by its id, where a label is not enough)."""

    def __init__(self, address: KekAddress, pin: SecretStr | None) -> None:
        """Take the address; the module is not loaded yet.

        Raises:
            ConfigurationFailed: python-pkcs11 is not installed.
        """
        require("pkcs11", "pkcs11")
        self.uri = address.identity
        self._address = address
        self._pin = pin
        self._wrong_pin: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri})"

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key.

        Raises:
            ConfigurationFailed: No module, PIN or key, or one that is not fit.
            Unavailable: The token is not there, or fails.
        """
        iv = os.urandom(_IV_BYTES)
        sealed = self._with_key(lambda key, gcm: key.encrypt(dek, **gcm), iv, context, unwrapping=False)
        return _VERSION + iv + sealed

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key.

        Raises:
            ConfigurationFailed: As `wrap`; or key, context or bytes do not match.
            Unavailable: The token is not there, or fails.
        """
        if len(blob) < 1 + _IV_BYTES + _TAG_BYTES or blob[:1] != _VERSION:
            raise cannot_unwrap(self.uri, context)
        iv, sealed = blob[1 : 1 + _IV_BYTES], blob[1 + _IV_BYTES :]
        return self._with_key(lambda key, gcm: key.decrypt(sealed, **gcm), iv, context, unwrapping=True)

    # ---- the token -----------------------------------------------------------------------------------------

    def _with_key(
        self,
        use: Callable[[Any, dict[str, Any]], bytes],
        iv: bytes,
        context: Mapping[str, str],
        *,
        unwrapping: bool,
    ) -> bytes:
        import pkcs11

        gcm = {
            "mechanism": pkcs11.Mechanism.AES_GCM,
            "mechanism_param": pkcs11.GCMParams(iv, associated_data(context), _TAG_BYTES * 8),
        }
        with _one_at_a_time, self._open_token() as session:
            key = self._find_key(session)
            try:
                return bytes(use(key, gcm))
            except pkcs11.exceptions.PKCS11Error as e:
                if unwrapping and _works(key, gcm):
                    raise cannot_unwrap(self.uri, context) from None
                raise self._failed(e) from None

    @contextmanager
    def _open_token(self) -> Iterator[Any]:
        import pkcs11

        pin = self._read_pin()
        if pin == self._wrong_pin:
            raise self._refused("PinIncorrect")  # a few more tries and the token locks itself
        try:
            library = pkcs11.lib(self._address.options["module"])
        except (OSError, RuntimeError) as e:  # the latter also when it is a library of something else
            raise kek_unusable(
                self.uri,
                f"the module cannot be loaded ({type(e).__name__})",
                "The option module is the full path of the PKCS#11 library of the token's maker.",
            ) from None
        try:
            session = library.get_token(token_label=self._address.parts["token"]).open(user_pin=pin)
        except pkcs11.exceptions.PinIncorrect:
            self._wrong_pin = pin
            raise self._refused("PinIncorrect") from None
        except pkcs11.exceptions.PKCS11Error as e:
            raise self._no_session(e) from None
        try:
            yield session
        finally:
            session.close()

    def _read_pin(self) -> str:
        path = self._address.options.get("pin_file")
        if path is not None:
            try:
                return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as e:
                raise kek_refused(
                    self.uri,
                    f"the PIN file cannot be read ({type(e).__name__})",
                    "The option pin_file names a text file that this user may read.",
                ) from None
        if self._pin is None:
            raise kek_refused(
                self.uri,
                "there is no PIN",
                "Set AIRBERG_KEYS__PKCS11_PIN, or the option pin_file of the address.",
            )
        return self._pin.get_secret_value()

    def _find_key(self, session: Any) -> Any:  # noqa: ANN401 - classes of a compiled module
        import pkcs11

        parts = self._address.parts
        wanted = {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.Attribute.LABEL: parts["label"],
        }
        if parts["id"]:
            wanted[pkcs11.Attribute.ID] = bytes.fromhex(parts["id"])
        guidance = (
            "Make an AES key of 256 bits that is sensitive, not extractable, and may encrypt and decrypt."
        )
        try:
            found = list(session.get_objects(wanted))  # to its end, else the search stays open
            loose = any(k[pkcs11.Attribute.EXTRACTABLE] or not k[pkcs11.Attribute.SENSITIVE] for k in found)
        except pkcs11.exceptions.PKCS11Error as e:
            raise kek_unavailable(self.uri, f"the token answers {type(e).__name__}") from None
        if not found:
            raise kek_unusable(self.uri, "the token has no secret key of that name", guidance)
        if len(found) > 1:
            raise kek_unusable(
                self.uri,
                f"{len(found)} keys have that label",
                "Name one by its id: pkcs11://TOKEN/LABEL?id=HEX&module=...",
            )
        if loose:
            raise kek_unusable(self.uri, "the key can be taken out of the token", guidance)
        return found[0]

    # ---- failures ------------------------------------------------------------------------------------------

    def _refused(self, kind: str) -> AirbergError:
        return kek_refused(
            self.uri,
            f"the token answers {kind}",
            "Give the PIN of the token's user, and start again: a wrong one is tried once, for tokens lock.",
        )

    def _no_session(self, error: Exception) -> AirbergError:
        from pkcs11 import exceptions as e

        kind = type(error).__name__
        if isinstance(
            error, e.PinLocked | e.PinExpired | e.PinInvalid | e.PinLenRange | e.UserPinNotInitialized
        ):
            return self._refused(kind)
        if isinstance(error, e.MultipleTokensReturned):
            return kek_unusable(self.uri, "several tokens have that label", "Give each its own label.")
        if isinstance(error, e.NoSuchToken):
            return kek_unavailable(self.uri, "the module shows no token of that label")
        return kek_unavailable(self.uri, f"the token answers {kind}")

    def _failed(self, error: Exception) -> AirbergError:
        from pkcs11 import exceptions as e

        kind = type(error).__name__
        unfit = (
            e.MechanismInvalid,
            e.MechanismParamInvalid,
            e.KeyTypeInconsistent,
            e.KeySizeRange,
            e.FunctionNotSupported,
        )
        if isinstance(error, unfit):
            return kek_unusable(
                self.uri,
                f"the token answers {kind}",
                "It must be an AES key that may encrypt and decrypt in GCM.",
            )
        return kek_unavailable(self.uri, f"the token answers {kind}")


def _works(key: Any, gcm: Mapping[str, Any]) -> bool:  # noqa: ANN401 - classes of a compiled module
    """Whether the key unwraps what it has wrapped itself.

    Tokens have no common answer to bytes that do not open (SoftHSM's is CKR_GENERAL_ERROR, as for a failure
    of its own), so that this is how the two are told apart.
    """
    import pkcs11

    probe = pkcs11.GCMParams(os.urandom(_IV_BYTES), b"probe", _TAG_BYTES * 8)
    fresh = {**gcm, "mechanism_param": probe}
    try:
        return bytes(key.decrypt(key.encrypt(b"probe", **fresh), **fresh)) == b"probe"
    except pkcs11.exceptions.PKCS11Error:
        return False
