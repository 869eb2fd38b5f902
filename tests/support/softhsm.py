"""A PKCS#11 token in software: SoftHSM, installed or fetched from Debian."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from support.pages import ROOT

PIN = "pin-of-the-tests"
TOKEN = "Airberg tests"


class NoToken(Exception):
    """There is no SoftHSM on this machine, and it cannot be fetched."""


@dataclass(frozen=True)
class SoftHsm:
    """A token with the keys `airberg`, `other`, twice `twins`, and `loose`, which can be taken out."""

    module: str

    def address(self, label: str = "airberg", token: str = TOKEN, more: str = "") -> str:
        """The address of a key."""
        return f"pkcs11://{quote(token)}/{label}?module={self.module}{more}"


def prepared_token(folder: Path) -> SoftHsm:
    """A new token. A process can have one folder of tokens only, the first that it asked for.

    Raises:
        NoToken: SoftHSM is not there.
    """
    import pkcs11

    found = subprocess.run(
        [ROOT / "scripts" / "fetch_softhsm.sh"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        raise NoToken(found.stderr.strip() or "it cannot be fetched")
    module, util = found.stdout.split()
    (folder / "tokens").mkdir()
    conf = folder / "softhsm2.conf"
    conf.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(conf)
    pins = ["--pin", PIN, "--so-pin", "so-pin-of-the-tests"]
    argv = [util, "--module", module, "--init-token", "--free", "--label", TOKEN, *pins]
    subprocess.run(argv, check=True, capture_output=True)
    token = pkcs11.lib(module).get_token(token_label=TOKEN)
    with token.open(rw=True, user_pin=PIN) as session:
        for label, key_id in (
            ("airberg", b"\x01"),
            ("other", b"\x02"),
            ("twins", b"\x03"),
            ("twins", b"\x04"),
        ):
            session.generate_key(
                pkcs11.KeyType.AES, 256, id=key_id, label=label, store=True, template=_kept_inside(True)
            )
        session.generate_key(
            pkcs11.KeyType.AES, 256, id=b"\x05", label="loose", store=True, template=_kept_inside(False)
        )
    return SoftHsm(module)


def _kept_inside(kept: bool) -> dict[object, object]:
    import pkcs11

    return {
        pkcs11.Attribute.EXTRACTABLE: not kept,
        pkcs11.Attribute.SENSITIVE: kept,
        pkcs11.Attribute.ENCRYPT: True,
        pkcs11.Attribute.DECRYPT: True,
    }
