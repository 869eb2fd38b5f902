"""Check and discover, asked of real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airberg.errors import ConfigurationFailed, RunError, TransientFailed
from airberg.sources.redact import MASK
from airberg.sources.verbs import CheckOutcome, check, discover
from support.connectors.scenarios import PASSWORD, SPEC, scenario_config, scripted_launch
from support.connectors.waiting import gone, until

STREAMS = [{"name": "users", "cursor": "id", "primary_key": [["id"]], "records": [{"id": 1, "name": "a"}]}]


def ask_check(tmp_path: Path, part: dict[str, Any], timeout_s: float = 20) -> CheckOutcome:
    """Check with that part of the scenario."""
    return check(scripted_launch(), scenario_config(tmp_path, {"check": part}), timeout_s)


def ask_discover(tmp_path: Path, part: dict[str, Any], timeout_s: float = 20) -> list[dict[str, Any]]:
    """Discover with that part of the scenario."""
    config = scenario_config(tmp_path, {"streams": STREAMS, "discover": part})
    return discover(scripted_launch(), config, timeout_s)


def test_verdict_and_message_are_the_connectors(tmp_path: Path) -> None:
    """A check passes, or fails with the connector's own words."""
    assert ask_check(tmp_path, {}) == CheckOutcome(True)
    failed = ask_check(tmp_path, {"status": "FAILED", "message": "no such host db.example"})
    assert failed == CheckOutcome(False, "no such host db.example")


def test_password_in_the_message_is_hidden(tmp_path: Path) -> None:
    """The connector's words are passed on without the configuration's secrets."""
    failed = ask_check(tmp_path, {"status": "FAILED", "message": f"login ada:{PASSWORD} refused"})
    assert failed.message == f"login ada:{MASK} refused"


def test_discover_gives_the_streams(tmp_path: Path) -> None:
    """Streams come as the protocol describes them, whatever was logged before."""
    (stream,) = ask_discover(tmp_path, {"steps": [{"line": "loading"}, {"leak": "stdout"}]})
    assert stream["name"] == "users"
    assert stream["supported_sync_modes"] == ["full_refresh", "incremental"]
    assert stream["source_defined_primary_key"] == [["id"]]
    assert stream["json_schema"]["properties"]["name"] == {"type": ["null", "string"]}


@pytest.mark.parametrize(
    ("failure_type", "error"),
    [("config_error", ConfigurationFailed), ("transient_error", TransientFailed)],
)
def test_trace_error_is_the_error(tmp_path: Path, failure_type: str, error: type[RunError]) -> None:
    """An error that the connector reports ends both questions, in its own words without secrets."""
    message = {"message": f"token {PASSWORD} has expired", "failure_type": failure_type}
    steps = {"steps": [{"trace_error": message}, {"exit": 1}]}
    for ask in (ask_check, ask_discover):
        with pytest.raises(error) as caught:
            ask(tmp_path, steps)
        assert caught.value.message == f"token {MASK} has expired"


def test_trace_error_wins_over_a_catalog(tmp_path: Path) -> None:
    """A catalog that follows an error is not trusted."""
    with pytest.raises(TransientFailed, match="half of it"):
        ask_discover(tmp_path, {"steps": [{"trace_error": {"message": "only half of it"}}]})


def test_end_without_an_answer_is_told_with_the_last_words(tmp_path: Path) -> None:
    """A connector that crashes says so on stderr; the password in its traceback is hidden."""
    steps = [{"stderr": "Traceback\n"}, {"leak": "stderr"}, {"exit": 7}]
    with pytest.raises(TransientFailed) as caught:
        ask_check(tmp_path, {"steps": steps})
    assert (
        f"exit code 7; its last words: Traceback | cannot log in with password {MASK}" in caught.value.message
    )


@pytest.mark.parametrize(
    "line",
    [
        "<html><body>It works!</body></html>",
        '{"type":"CATALOG","catalog":{}}',
        '{"type":"SPEC","spec":{}}',
        "{oops",
    ],
)
def test_wrong_answers_are_no_answers(tmp_path: Path, line: str) -> None:
    """Other output than an answer is an error, never an empty catalog."""
    with pytest.raises(TransientFailed):
        ask_discover(tmp_path, {"steps": [{"line": line}], "answer": False})


def test_connector_that_never_answers_is_ended(tmp_path: Path) -> None:
    """After the time is over the error says so, and the process is gone although it ignores SIGTERM."""
    pids = tmp_path / "pids"
    steps = [{"ignore_sigterm": True}, {"fork": 600, "pids": str(pids)}, {"sleep": 600}]
    with pytest.raises(TransientFailed) as caught:
        ask_check(tmp_path, {"steps": steps}, timeout_s=3.0)
    assert caught.value.code in ("connector-timeout", "connector-idle")
    until(lambda: gone(int(pids.read_text())))


def test_answer_counts_although_the_connector_does_not_end(tmp_path: Path) -> None:
    """A verdict is a verdict, also from a connector that hangs afterwards."""
    status = {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}
    part = {"steps": [{"emit": status}, {"sleep": 600}]}
    assert ask_check(tmp_path, part, timeout_s=1.0) == CheckOutcome(True)


def test_changed_configuration_is_handed_over_and_its_secrets_are_hidden(tmp_path: Path) -> None:
    """A rotated password reaches the caller before the answer, and the new one is hidden like the old one."""
    new = {"scenario": "x", "password": "rotated-password-2"}
    part = {
        "steps": [{"control": new}],
        "status": "FAILED",
        "message": "rotated-password-2 is not enough",
    }
    got: list[dict[str, Any]] = []
    outcome = check(scripted_launch(), scenario_config(tmp_path, {"check": part}), 20, got.append)
    assert got == [new]
    assert outcome.message == f"{MASK} is not enough"
    assert SPEC["properties"]["password"]["airbyte_secret"]
