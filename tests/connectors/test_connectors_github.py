"""source-github, real, against a double of GitHub's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airberg.errors import InvalidRequest
from support.github_double import REPOSITORY, TOKEN, GitHub, running_github

pytestmark = pytest.mark.connector


@pytest.fixture
def github() -> Iterator[GitHub]:
    """A repository with 25 issues and 3 tags."""
    with running_github() as made:
        for number in range(1, 26):
            made.put_issue(number, f"2026-02-{number:02}T10:00:00Z", f"Issue {number}")
        for name in ("v1", "v2", "v3"):
            made.put_tag(name)
        yield made


def config(github: GitHub, token: str = TOKEN) -> dict[str, Any]:
    """Ten issues a page."""
    return {
        "credentials": {"option_title": "PAT Credentials", "personal_access_token": token},
        "repositories": [REPOSITORY],
        "api_url": github.url,
        "start_date": "2026-01-01T00:00:00Z",
        "page_size_for_large_streams": 10,
    }


def titles(rows: list[tuple[Any, ...]]) -> dict[int, str]:
    """Title by number; every number once."""
    assert len({number for number, _ in rows}) == len(rows)
    return dict(rows)


def test_issues_are_merged_from_where_the_last_run_stood(deploy: Any, github: GitHub) -> None:
    """Three pages at first; then only what was updated since, on top of what is there."""
    deployment = deploy("source-github")
    job = deployment.job_of("source-github", config(github), "merge", streams=("issues", "tags"))
    modes = {s.name: (s.sync_mode, s.cursor, s.merge_key) for s in job.plan.streams}
    assert modes["issues"] == ("incremental", ("updated_at",), (("id",),))
    assert modes["tags"] == ("full_refresh", (), (("repository",), ("name",)))
    assert TOKEN not in repr(job)

    github.asked.clear()
    first = {s.stream: s.rows_written for s in deployment.run(job, "run-1").report.streams}
    assert first == {"issues": 25, "tags": 3}
    pages = [query for path, query in github.asked if path.endswith("/issues")]
    assert [query.get("page", "1") for query in pages] == ["1", "2", "3"]
    assert {query["since"] for query in pages} == {"2026-01-01T00:00:00Z"}
    assert titles(deployment.rows("issues", "number", "title")) == {n: f"Issue {n}" for n in range(1, 26)}

    github.put_issue(3, "2026-03-01T10:00:00Z", "Issue 3, closed", "closed")
    github.put_issue(26, "2026-03-02T10:00:00Z", "Issue 26")
    github.asked.clear()
    second = deployment.run(job, "run-2")
    [query] = [query for path, query in github.asked if path.endswith("/issues")]
    assert query["since"] == "2026-02-25T10:00:00Z"
    # The cursor is inclusive: the newest issue of the first run comes again, and is merged.
    assert {s.stream: s.rows_written for s in second.report.streams}["issues"] == 3
    expected = {n: f"Issue {n}" for n in range(1, 27)} | {3: "Issue 3, closed"}
    assert titles(deployment.rows("issues", "number", "title")) == expected
    assert sorted(deployment.rows("tags", "name")) == [("v1",), ("v2",), ("v3",)]


def test_a_wrong_token_is_refused_at_submit(deploy: Any, github: GitHub) -> None:
    """The reason is the connector's; the token is not in it."""
    deployment = deploy("source-github")
    with pytest.raises(InvalidRequest, match=r"401|authentication|credentials") as caught:
        deployment.job_of("source-github", config(github, "ghp_wrong-token"), streams=("issues",))
    assert "ghp_wrong-token" not in str(caught.value)
    assert github.refused > 0
