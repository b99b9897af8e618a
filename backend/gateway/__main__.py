"""`python -m backend.gateway` serves."""

import sys

from backend.gateway.serve import main

sys.exit(main())
