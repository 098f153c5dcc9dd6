"""`python -m storekeeper` and the console script."""

from storekeeper.cli import main

if __name__ == "__main__":
    main()
