"""`python -m airberg.cli`."""

import sys

from airberg.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
