"""One stage: its inputs, its training by gradient or by a solver, and what it leaves."""
