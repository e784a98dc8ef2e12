"""`report.html`, its sections and its figures; small pages of other commands."""
