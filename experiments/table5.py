"""Table 5: RotL trained with HaLE without each of its parts, 32 dimensions."""

import sys
from functools import partial

from experiments.command import from_records
from experiments.comparison import build

TITLE = "Table 5: RotL trained with HaLE without each of its parts, 32 dimensions"

if __name__ == "__main__":
    sys.exit(from_records(__doc__, partial(build, "table5", TITLE)))
