"""`python -m nlp_transfer.train …` is the training command of `nlp_transfer.cli.train`."""

from nlp_transfer.cli.train import main

if __name__ == "__main__":
    main()
