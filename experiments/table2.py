"""Table 2: 32 dimensions, FB15k-237 and WN18RR."""

import sys
from functools import partial

from experiments.command import from_records
from experiments.comparison import build

TITLE = "Table 2: 32 dimensions, FB15k-237 and WN18RR"

if __name__ == "__main__":
    sys.exit(from_records(__doc__, partial(build, "table2", TITLE)))
