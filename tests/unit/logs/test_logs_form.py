"""How log lines look: JSON, columns, plain."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from airberg.cli.logs import log_of_service, log_to_stderr, log_to_stdout
from airberg.logs.context import log_fields, note, note_for_process, request_fields
from airberg.logs.plain import PlainFormatter
from airberg.logs.scrub import Scrubber
from airberg.logs.structured import structured_formatter
from airberg.settings import Settings

PLANTED = "pl4nted-value"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger of its own."""
    found = logging.getLogger("test.form")
    found.propagate = False
    found.setLevel(logging.DEBUG)
    yield found
    found.handlers.clear()


@pytest.fixture
def root() -> Iterator[None]:
    """The root logger's handlers are put back."""
    kept, level = logging.root.handlers[:], logging.root.level
    logging.root.handlers.clear()
    yield
    logging.root.handlers[:] = kept
    logging.root.setLevel(level)


def written(logger: logging.Logger, formatter: logging.Formatter) -> io.StringIO:
    """What the logger writes from now on."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    return out


def json_lines(out: io.StringIO) -> list[dict[str, Any]]:
    """The lines, each of which must be an object."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


def fails() -> None:
    """Raise with a value in the message."""
    raise ValueError(f"could not use {PLANTED}")


def test_json_lines_have_the_request_the_caller_and_the_fields(logger: logging.Logger) -> None:
    """In an order that people can read too; one line an event, whatever it holds."""
    out = written(logger, structured_formatter(Scrubber(), terminal=False))
    with request_fields(request_id="r1"):
        note(principal="https://sso.example|ann", job_id="j1")
        logger.info("rows: %d\nof %s", 7, "users", extra={"route": "/api/jobs", "ms": 1.5, "token": PLANTED})
    logger.warning("later")
    first, second = json_lines(out)
    assert list(first)[:4] == ["at", "level", "logger", "event"]
    assert datetime.fromisoformat(first.pop("at")).tzinfo is not None
    assert first == {
        "level": "info",
        "logger": "test.form",
        "event": "rows: 7\nof users",
        "request_id": "r1",
        "principal": "https://sso.example|ann",
        "job_id": "j1",
        "route": "/api/jobs",
        "ms": 1.5,
        "token": "**********",
    }
    assert second.keys() == {"at", "level", "logger", "event"}


@pytest.mark.parametrize("form", ["json", "console", "plain"])
def test_exceptions_are_lines_of_code(logger: logging.Logger, form: str) -> None:
    """Their messages may quote values. What another handler made of the record before does not matter."""
    texts = written(logger, logging.Formatter())  # caches the text of the exception in the record
    scrubber = Scrubber()
    out = written(
        logger,
        PlainFormatter(scrubber)
        if form == "plain"
        else structured_formatter(scrubber, terminal=form == "console"),
    )
    try:
        fails()
    except ValueError:
        logger.exception("went wrong", stack_info=True)
    assert PLANTED in texts.getvalue()
    assert PLANTED not in out.getvalue()
    assert "ValueError" in out.getvalue()
    assert "in fails" in out.getvalue()


def test_an_extra_field_cannot_pass_for_the_origin_of_a_line(logger: logging.Logger) -> None:
    """Nor replace what was logged."""
    out = written(logger, structured_formatter(Scrubber(), terminal=False))
    logger.info("true", extra={"event": "false", "level": "error", "logger": "other"})
    [line] = json_lines(out)
    assert (line["event"], line["level"], line["logger"]) == ("true", "info", "test.form")


def test_a_process_has_fields_of_its_own(monkeypatch: pytest.MonkeyPatch, logger: logging.Logger) -> None:
    """Those of a run, in all of its threads."""
    monkeypatch.setattr("airberg.logs.context._of_process", {})
    note(lost="outside of a request")
    note_for_process(job_id="j1")
    assert log_fields() == {"job_id": "j1"}
    out = written(logger, structured_formatter(Scrubber(), terminal=False))
    logger.info("x")
    assert json_lines(out)[0]["job_id"] == "j1"


@pytest.mark.usefixtures("root")
def test_the_service_writes_json_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """With what libraries say, without the secrets of the deployment."""
    log_of_service(Settings(), ["machine-t0ken"])
    logging.getLogger("some.library").warning("sent machine-t0ken to %s", "http://u:pw0rd@h/")
    [line] = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert (line["logger"], line["level"]) == ("some.library", "warning")
    assert line["event"] == "sent ********** to http://u:**********@h/"


@pytest.mark.usefixtures("root")
def test_the_service_writes_columns_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who tries it out."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    log_of_service(Settings())
    logging.getLogger("airberg.access").info("GET /api/jobs 200", extra={"ms": 1.5})
    assert "GET /api/jobs 200" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.usefixtures("root")
def test_tasks_of_flows_write_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The log of a flow's task is read by people, and knows job and run; JSON on request."""
    log_to_stdout(Settings())
    logging.getLogger("a.b").info("password=%s", PLANTED)
    text = capsys.readouterr().out
    assert text.endswith("INFO    a.b: password=**********\n")
    log_to_stderr(Settings(log_format="json"))
    logging.getLogger("a.b").info("x")
    assert json.loads(capsys.readouterr().err)["event"] == "x"
