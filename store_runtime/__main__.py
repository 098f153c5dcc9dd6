"""`python -m store_runtime` and the console script."""

from store_runtime.cli import main

if __name__ == "__main__":
    main()
