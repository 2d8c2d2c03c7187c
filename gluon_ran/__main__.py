"""`python -m gluon_ran`: the networks from the command line."""

import sys

from gluon_ran.commands import main

if __name__ == "__main__":
    sys.exit(main())
