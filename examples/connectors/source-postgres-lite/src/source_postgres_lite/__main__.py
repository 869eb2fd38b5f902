"""`python -m source_postgres_lite` is the connector, too."""

import sys

from source_postgres_lite.command import main

sys.exit(main())
