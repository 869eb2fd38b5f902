"""What every key-encryption key does, wherever it is."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping

import pytest

from airberg.errors import AirbergError, ConfigurationFailed, Unavailable
from airberg.keys.kek import Kek
from support.kek_cases import SERVICES, KekCase, opened

DEK = bytes(range(200, 232))
CONTEXT = {"name": "crm-pii", "version": "3", "id": "4026531841"}

every = pytest.mark.parametrize("kek_case", ["local", *SERVICES], indirect=True)
every_service = pytest.mark.parametrize("kek_case", SERVICES, indirect=True)


def assert_nothing_shown(text: str, case: KekCase) -> None:
    """Neither the data key nor a secret of the case is in a text."""
    for shown in (DEK.hex(), base64.b64encode(DEK).decode(), repr(DEK)[2:-1], *case.secrets):
        assert shown not in text


def refusal_to_unwrap(
    kek: Kek, blob: bytes, context: Mapping[str, str], case: KekCase, code: str = "cannot-unwrap-key"
) -> None:
    """Unwrapping fails for good, and says so without showing anything."""
    with pytest.raises(ConfigurationFailed) as e:
        kek.unwrap(blob, context)
    assert e.value.code == code
    assert e.value.guidance
    assert_nothing_shown(e.value.sentence(), case)


@every
def test_wraps_and_unwraps(kek_case: KekCase) -> None:
    """A wrapped key opens again, also for another object; wrapping twice gives different bytes."""
    kek = opened(kek_case.settings)
    blob, again = kek.wrap(DEK, CONTEXT), kek.wrap(DEK, CONTEXT)
    assert DEK not in blob
    assert base64.b64encode(DEK) not in blob
    assert blob != again
    assert opened(kek_case.settings).unwrap(blob, dict(reversed(CONTEXT.items()))) == DEK


@every
def test_a_wrapped_key_opens_in_its_place_only(kek_case: KekCase) -> None:
    """The context is authenticated as a whole."""
    kek = opened(kek_case.settings)
    blob = kek.wrap(DEK, CONTEXT)
    others = [{**CONTEXT, name: value} for name, value in (("name", "x"), ("version", "2"), ("id", "7"))]
    for context in (*others, {"name": "crm-pii", "version": "3"}, {**CONTEXT, "more": "y"}):
        refusal_to_unwrap(kek, blob, context, kek_case)
    assert kek.unwrap(blob, CONTEXT) == DEK


@every
def test_changed_bytes_do_not_open(kek_case: KekCase) -> None:
    """Not with a byte changed at the end or in the middle, nor cut short, nor something else altogether."""
    kek = opened(kek_case.settings)
    blob = kek.wrap(DEK, CONTEXT)
    middle, end = len(blob) - 30, len(blob) - 3
    changed = [
        blob[:at] + (b"A" if blob[at : at + 1] != b"A" else b"B") + blob[at + 1 :] for at in (middle, end)
    ]
    for wrong in (*changed, blob[:-8], blob[:10], b"", b"\xff" * 80):
        refusal_to_unwrap(kek, wrong, CONTEXT, kek_case)


@every
def test_another_key_does_not_open_it(kek_case: KekCase) -> None:
    """What one key of a service has wrapped, another one refuses."""
    blob = opened(kek_case.settings).wrap(DEK, CONTEXT)
    refusal_to_unwrap(opened(kek_case.other), blob, CONTEXT, kek_case, kek_case.foreign_code)


@every
def test_the_identity_is_stable_and_no_secret(kek_case: KekCase) -> None:
    """It fits into a record, tells keys apart, and shows neither secrets nor how the key is reached."""
    kek = opened(kek_case.settings)
    assert kek.uri == opened(kek_case.settings).uri
    assert len(kek.uri) <= 200
    assert "127.0.0.1" not in kek.uri
    for text in (kek.uri, repr(kek), str(kek_case.settings)):
        assert_nothing_shown(text, kek_case)
    if kek_case.down is not None:
        assert kek.uri != opened(kek_case.other).uri


@every_service
def test_a_service_that_is_down(kek_case: KekCase) -> None:
    """It may work another time: the call answers 503, a run is tried again."""
    working = opened(kek_case.settings)
    blob = working.wrap(DEK, CONTEXT)
    assert kek_case.down is not None
    for call in (lambda k: k.wrap(DEK, CONTEXT), lambda k: k.unwrap(blob, CONTEXT)):
        with pytest.raises(Unavailable) as e:
            call(opened(kek_case.down))
        assert e.value.code == "kek-unavailable"
        assert_nothing_shown(e.value.sentence(), kek_case)


@every_service
def test_credentials_that_are_refused(kek_case: KekCase) -> None:
    """A person has to change something, and is told what."""
    blob = opened(kek_case.settings).wrap(DEK, CONTEXT)
    kek_case.before_refusal()
    assert kek_case.refused is not None
    for call in (lambda k: k.wrap(DEK, CONTEXT), lambda k: k.unwrap(blob, CONTEXT)):
        with pytest.raises(ConfigurationFailed) as e:
            call(opened(kek_case.refused))
        assert e.value.code == "kek-refused"
        assert e.value.guidance
        assert_nothing_shown(e.value.sentence(), kek_case)


@every
def test_logs_show_nothing_at_any_level(kek_case: KekCase, caplog: pytest.LogCaptureFixture) -> None:
    """Client libraries would log whole requests at DEBUG."""
    caplog.set_level(logging.DEBUG)
    kek = opened(kek_case.settings)
    assert kek.unwrap(kek.wrap(DEK, CONTEXT), CONTEXT) == DEK
    if kek_case.refused is not None:
        with pytest.raises(AirbergError):
            opened(kek_case.refused).unwrap(b"\xff" * 80, CONTEXT)
    assert_nothing_shown("\n".join(f"{r.getMessage()} {r.__dict__}" for r in caplog.records), kek_case)
