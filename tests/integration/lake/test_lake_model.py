"""Whatever happens to a table, it equals a dictionary, read by pyiceberg and by DuckDB after every step.

`make test` plays a few plans, always the same ones; `make model` many, other ones each time. `MODEL_SEED`
decides which, `MODEL_EXAMPLES` how many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from support.lake_tables import sql_catalog
from support.model_plans import Plan, plans
from support.model_play import Play

SHORT_EXAMPLES = 10
SEED = os.environ.get("MODEL_SEED")
MOST_ACTIONS = 8 if SEED is None else 14


def playing(test: Callable[..., None]) -> Callable[..., None]:
    """The same plans each time, or those of the seed."""
    asked = settings(
        max_examples=int(os.environ.get("MODEL_EXAMPLES") or SHORT_EXAMPLES),
        derandomize=SEED is None,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if SEED else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return asked(test if SEED is None else seed(int(SEED))(test))


def play(folder: Path, plan: Plan) -> None:
    """Play a plan in a catalog of its own."""
    catalog = sql_catalog(folder)
    try:
        Play(catalog, folder, plan.shape).play(plan.actions)
    finally:
        catalog.close()


@playing
@given(plan=plans("position", MOST_ACTIONS))
def test_position_deletes(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    """Replaced rows are taken out by position-delete files."""
    play(tmp_path_factory.mktemp("lake"), plan)


@playing
@given(plan=plans("vector", MOST_ACTIONS))
def test_deletion_vectors(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    """Replaced rows are taken out by deletion vectors."""
    play(tmp_path_factory.mktemp("lake"), plan)


@playing
@given(plan=plans("copy-on-write", MOST_ACTIONS))
def test_copy_on_write(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> None:
    """Files that lose rows are written anew."""
    play(tmp_path_factory.mktemp("lake"), plan)
