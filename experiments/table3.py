"""Table 3: 256 dimensions, CoDEx."""

import sys
from functools import partial

from experiments.command import from_records
from experiments.comparison import build

if __name__ == "__main__":
    sys.exit(from_records(__doc__, partial(build, "table3", "Table 3: 256 dimensions, CoDEx")))
