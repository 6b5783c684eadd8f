"""Table 5: HaLE-RotL without its parts, 32 dimensions."""

import sys
from functools import partial

from experiments.command import from_records
from experiments.comparison import build

if __name__ == "__main__":
    sys.exit(
        from_records(
            __doc__, partial(build, "table5", "Table 5: HaLE-RotL without its parts, 32 dimensions")
        )
    )
