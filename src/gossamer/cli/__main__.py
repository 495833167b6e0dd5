"""python -m gossamer.cli is the same door as gossamer."""

import sys

from gossamer.cli import main

sys.exit(main())
