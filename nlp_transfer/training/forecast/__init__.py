"""How long a run takes and what it needs, from a few timed steps; and a budget of minutes."""
