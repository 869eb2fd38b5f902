"""Real runs, killed at random places and at every step of a checkpoint; in the end the tables are exact.

`make test` plays the short form; `make chaos` the long one. `CHAOS_SEED` decides what happens (but for the
timing), `CHAOS_KILLS` how much of it, `CHAOS_EPISODE` replays one episode.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airberg.lake.steps import Step
from airberg.settings import SyncSettings
from support.chaos_episode import Episode, Ground
from support.deployment import Deployment

SHORT_KILLS = 12
KILLS_PER_EPISODE = 8
WORKERS = 3  # runs wait for leases a good part of their time


@pytest.mark.chaos
def test_kills(
    tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However often and wherever runs are killed, no row is lost and none is there twice."""
    seed = os.environ.get("CHAOS_SEED") or ("1" if "CHAOS_KILLS" not in os.environ else str(os.getpid()))
    wanted = int(os.environ.get("CHAOS_KILLS") or SHORT_KILLS)
    only = os.environ.get("CHAOS_EPISODE")
    numbers = iter([int(only)]) if only else itertools.count()
    grounds: list[Ground] = []
    lock = threading.Lock()
    failed = threading.Event()

    def kills() -> int:
        return sum(sum(ground.kills.values()) for ground in grounds)

    for worker in range(WORKERS if wanted > SHORT_KILLS else 2):  # one by one: Alembic knows no threads
        home = tmp_path / f"w{worker}"
        (home / "tmp").mkdir(parents=True)
        often = SyncSettings(checkpoint_seconds=0.0)
        grounds.append(Ground(Deployment(home / "home", pyairbyte_dir, connectors_dir, often), home / "tmp"))

    def work(ground: Ground) -> None:
        while not failed.is_set() and kills() < wanted:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            rng = random.Random(f"{seed}/{number}")
            episode = Episode(ground, rng, f"e{number}", number * 5)
            try:
                episode.play(KILLS_PER_EPISODE, lambda: kills() >= wanted)
                if wanted > SHORT_KILLS:
                    with capsys.disabled():
                        print(f"  {kills():4} kills  {episode}", flush=True)
            except BaseException:
                failed.set()
                with capsys.disabled():
                    print(f"\nreplay: make chaos SEED={seed} EPISODE={number}")
                raise

    with capsys.disabled():
        print(f"\nchaos: SEED={seed} KILLS={wanted}", flush=True)
    with ThreadPoolExecutor(len(grounds)) as pool:
        for worker in [pool.submit(work, ground) for ground in grounds]:
            worker.result()
    summarize(grounds, seed, capsys)
    assert only or kills() >= wanted


def summarize(grounds: list[Ground], seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each place, then the sum."""
    found: Counter[tuple[str, str]] = sum((ground.kills for ground in grounds), Counter())
    whom = ("sync", "connector", "both")
    with capsys.disabled():
        for where in [*Step, "a record", "a time"]:
            counts = "  ".join(f"{who} {found[who, where]:3}" for who in whom)
            print(f"  at {where:18} {counts}")
        total = {who: sum(n for (by, _), n in found.items() if by == who) for who in whom}
        print(
            f"chaos: {sum(total.values())} kills ({', '.join(f'{k} {v}' for k, v in total.items())}) in "
            f"{sum(g.runs for g in grounds)} runs, {sum(g.missed for g in grounds)} came too late; "
            f"all tables exact; SEED={seed}"
        )
