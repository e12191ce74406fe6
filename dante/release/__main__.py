"""A model out of any checkpoint of a fit: see `dante.release.model`."""

import sys

from dante.release.model import main

sys.exit(main(sys.argv[1:]))
