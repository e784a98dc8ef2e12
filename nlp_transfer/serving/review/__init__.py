"""A page on which somebody labels the rows of a table, one after the other."""
