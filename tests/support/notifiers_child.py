"""Runs in an environment with Airflow and its providers: tells a notice that comes on the standard input."""

from __future__ import annotations

import json
import sys

from airberg_airflow.notices import Notice, Subject, tell

asked = json.load(sys.stdin)
tell(asked["notifications"], Notice("failed", Subject(*asked["subject"]), asked["run_id"], "failed"))
