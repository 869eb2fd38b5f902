"""What the command line does around an answer, and how it shows rows."""

from __future__ import annotations

import io

import httpx
import pytest
from rich.console import Console

from airberg.api.problems import problem_response
from airberg.cli.quickstart import SLOW_ANSWERS, _submit
from airberg.cli.tables import _print_rows
from airberg.errors import AirbergError


def console(width: int) -> tuple[Console, io.StringIO]:
    """A terminal of that width, and what is written to it."""
    out = io.StringIO()
    return Console(file=out, width=width), out


def submitted(*codes: str) -> list[bytes]:
    """What quickstart sends to a service that refuses with these codes, each once, and then takes the job."""
    posted: list[bytes] = []

    def service(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=[])
        posted.append(request.content)
        if len(posted) <= len(codes):
            refusal = problem_response(503, codes[len(posted) - 1], "Not yet.", headers={"Retry-After": "0"})
            return httpx.Response(refusal.status_code, content=refusal.body, headers=dict(refusal.headers))
        return httpx.Response(201, json={"flow_url": "http://127.0.0.1/x", "job_id": "1", "error": None})

    with httpx.Client(transport=httpx.MockTransport(service), base_url="http://127.0.0.1") as api:
        assert _submit(api, console(80)[0]) == "1"
    return posted


@pytest.mark.parametrize("code", ["connector-installing", "preflight-timeout"])
def test_quickstart_asks_again_where_the_service_says_so(code: str) -> None:
    """A 503 for a connector that is being installed, or too slow to answer, makes it send the same again."""
    first, second = submitted(code)
    assert first == second


def test_quickstart_does_not_ask_a_source_for_ever() -> None:
    """A source that never answers is an error in the end; other refusals are at once."""
    with pytest.raises(AirbergError, match="503"):
        submitted(*["preflight-timeout"] * (SLOW_ANSWERS + 1))
    with pytest.raises(AirbergError, match="503"):
        submitted("store-unreachable")


def test_columns_that_have_no_room_are_named() -> None:
    """A wide table shows its first columns whole instead of all of them squeezed to nothing."""
    terminal, out = console(40)
    _print_rows(terminal, [{"_airbyte_raw_id": "r", "id": 7, "text": "x" * 20, "more": "y" * 20, "z": 1}])
    lines = out.getvalue().splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert "x" * 20 in lines[-2]
    assert "r" not in lines[-2].split()
    assert lines[-1] == "  not shown: more, z"


def test_a_table_that_just_fits_is_shown_whole() -> None:
    """Nothing is hidden at the very width that all columns need, nor when one column alone is too wide."""
    terminal, out = console(10 + 3 + 10)
    _print_rows(terminal, [{"a": "x" * 10, "b": "y" * 10}])
    assert "not shown" not in out.getvalue()
    assert "x" * 10 in out.getvalue()
    assert "y" * 10 in out.getvalue()
    narrow, squeezed = console(8)
    _print_rows(narrow, [{"a": "x" * 10}])
    assert "not shown" not in squeezed.getvalue()
