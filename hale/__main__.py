"""``python -m hale``, the same as the command ``hale``."""

from hale.cli import main

if __name__ == "__main__":
    main()
