"""A double of DataHub's metadata service (GMS): the same calls, the same refusals, no containers.

It keeps aspects in memory and refuses what the service refuses: unknown entities, aspects and fields,
values that DataHub's generated classes do not take, bad urns, a wrong token. It applies patches, keeps
versions for conditional writes, and can be made to fail in the ways that a service fails.

```python
from airberg.testing.datahub import Fault, serve_datahub

with serve_datahub() as datahub:
    ...  # AIRBERG_DATAHUB__SERVER=datahub.url, AIRBERG_DATAHUB__TOKEN=datahub.token
    datahub.fault = Fault(status=503, times=2)  # the next two requests
    print(datahub.aspect("urn:li:tag:pii", "tagKey"))
```

From a shell: `python -m airberg.testing.datahub --port 8081`.

What it cannot prove is that the Java service does the same. Its rules for patches, versions and events were
read in the service's source (`entity-registry`, `metadata-io`), and no real one was asked.
"""

from __future__ import annotations

import os

# DataHub's client reads this when it is imported, and would otherwise report to its makers.
os.environ["DATAHUB_TELEMETRY_ENABLED"] = "false"

from airberg.testing.datahub.faults import Fault
from airberg.testing.datahub.refusal import Refused
from airberg.testing.datahub.server import serve_datahub
from airberg.testing.datahub.service import DataHubDouble

__all__ = ["DataHubDouble", "Fault", "Refused", "serve_datahub"]
