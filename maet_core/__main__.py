"""`python -m maet_core` is `maet`."""

from maet_core.cli import main

if __name__ == "__main__":
    main()
