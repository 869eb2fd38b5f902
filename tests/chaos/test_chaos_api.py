"""Ten thousand requests made of the OpenAPI document, by seeds: nothing breaks, no answer is a surprise.

`make test` plays a few; `make chaos` all. `CHAOS_SEED` decides which, `API_CASES` how many at least.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from support.api_cases import play
from support.contract_ground import Ground
from support.contract_service import running_contract_service

LONG = 10_000
EXAMPLES = 40
PEOPLE = {
    "admin": (("ingest:read", "ingest:write", "keys:admin"), ("ingest-admin",)),
    "owner": (("ingest:read", "ingest:write"), ()),
    "reader": (("ingest:read",), ()),
    "insider": (("ingest:read", "ingest:write", "keys:admin"), ("sales",)),
    "nobody": None,
}


@pytest.mark.chaos
def test_any_request(tmp_path: Path, migrated_sqlite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an administrator, of others, of nobody; each round on a new store, with a seed of its own."""
    long = "CHAOS_KILLS" in os.environ
    seed = os.environ.get("CHAOS_SEED") or (str(os.getpid()) if long else "1")
    wanted = int(os.environ.get("API_CASES") or (LONG if long else 1))
    with capsys.disabled():
        print(f"\nany request: CHAOS_SEED={seed}")
    rng = random.Random(seed)
    cases: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    number = 0
    while cases.total() < wanted:
        home = tmp_path / f"round-{number}"
        home.mkdir()
        who = list(PEOPLE)[number % len(PEOPLE)]
        round_seed = rng.randrange(2**31)
        with running_contract_service(home, Path(shutil.copy(migrated_sqlite, home / "jobs.db"))) as service:
            headers = {}
            if (may := PEOPLE[who]) is not None:
                headers["Authorization"] = f"Bearer {service.token('ann', *may[0], roles=may[1])}"
            phases = ("fuzzing", "stateful")
            if long and who == "admin":
                phases = ("examples", "coverage", *phases)
            examples = EXAMPLES if long else 1
            with Ground(service) as ground:
                insider = ground if who == "insider" else None
                played = play(
                    service.url, headers, seed=round_seed, examples=examples, phases=phases, insider=insider
                )
        assert not played.faults, f"CHAOS_SEED={seed}, round {number}, {who}:\n" + "\n".join(
            f"{what}\n    {how}" for what, how in played.faults.items()
        )
        cases.update(played.cases)
        statuses.update(played.by_status())
        number += 1
    with capsys.disabled():
        print(f"any request: {cases.total()} cases {dict(cases)}, answers {dict(sorted(statuses.items()))}")
    assert not {status for status in statuses if status >= 500} - {503}
