"""`python -m nlp_transfer.cli …` is `nlp-transfer …`."""

from nlp_transfer.cli.main import main

if __name__ == "__main__":
    main()
