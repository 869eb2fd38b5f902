"""DataHub: change proposals for the tables of a job, and where they go.

`schema`, `lineage`, `entities`, `proposals` and `runs` import `datahub` and `pyiceberg`; all other modules
import neither when they are loaded, and may be used by the HTTP process.
"""

from __future__ import annotations

import os

# DataHub's client reads this when it is imported, and would otherwise report to its makers.
os.environ["DATAHUB_TELEMETRY_ENABLED"] = "false"
