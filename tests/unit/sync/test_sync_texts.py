"""What is told of connectors' texts, and of failures that nobody expected."""

from __future__ import annotations

import logging

import pyarrow as pa
import pytest

from airberg.errors import InvalidRequest, Problem, TransientFailed, Unavailable
from airberg.sources.redact import Redactor
from airberg.sync.failure import as_run_error
from airberg.sync.texts import SEALED, ConnectorTexts


def turned(text: str) -> str:
    """A seal that tests can read."""
    return f"<{text[::-1]}>"


@pytest.fixture(params=[False, True], ids=["open", "protects"])
def texts(request: pytest.FixtureRequest) -> ConnectorTexts:
    """Of both kinds of jobs."""
    made = ConnectorTexts(protects=request.param)
    made.redactor = Redactor(["hunter2"])
    made.seal = turned
    return made


def test_logs_and_errors(texts: ConnectorTexts, caplog: pytest.LogCaptureFixture) -> None:
    """Secrets never; the rest in clear, or sealed in the log alone."""
    caplog.set_level(logging.INFO)
    texts.log(logging.INFO, "row of ann, hunter2")
    texts.log(logging.DEBUG, "not asked for")
    told = texts.told("error at ann, hunter2")
    if texts.protects:
        assert told == SEALED
        assert texts.told(told) == SEALED
        assert [turned(m[1:-1])[1:-1] for m in caplog.messages] == [
            "row of ann, **********",
            "error at ann, **********",
        ]
    else:
        assert caplog.messages == ["row of ann, **********"]
        assert told == "error at ann, **********"
    assert texts.told(" ") == " "


def test_nothing_is_told_before_there_is_a_seal(caplog: pytest.LogCaptureFixture) -> None:
    """A key that is disabled fails the run early; what was said until then is lost."""
    texts = ConnectorTexts(protects=True)
    assert texts.told("row of ann") == SEALED
    assert caplog.messages == ["[withheld]"]


def unexpected() -> Exception:
    """An exception of a library that quotes a value."""
    rows = ["@".join(("ann", "example.com"))]  # the line of code itself is told
    try:
        pa.array(rows, pa.int64())
    except pa.ArrowInvalid as e:
        return e
    raise AssertionError


def test_unexpected_failures(texts: ConnectorTexts, caplog: pytest.LogCaptureFixture) -> None:
    """The run's error has the kind only; the log says where, and what only if it may."""
    failure = unexpected()
    assert "ann@example.com" in str(failure)
    error = as_run_error(failure, texts)
    assert (error.code, type(error)) == ("internal-error", TransientFailed)
    assert "ArrowInvalid" in error.message
    assert "test_sync_texts.py" in caplog.text
    assert ("ann@example.com" in caplog.text) is not texts.protects
    assert (turned("ann@example.com")[1:-1] in caplog.text) is texts.protects


def test_errors_of_ours_keep_their_words(texts: ConnectorTexts) -> None:
    """They hold no values; secrets are taken out all the same."""
    away = as_run_error(Unavailable("hunter2 is away", guidance="Wait.", code="away"), texts)
    assert (away.sentence(), away.code) == ("********** is away Wait.", "away")
    wrong = InvalidRequest([Problem("/a", "x", "One."), Problem("/b", "y", "Two.")])
    assert as_run_error(wrong, texts).message == "One. Two."
