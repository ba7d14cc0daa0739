"""`python -m wb` is `wb`."""

from wb.cli.main import main

if __name__ == "__main__":
    main()
