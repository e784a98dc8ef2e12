"""What people read of a run: console summary, HTML and Markdown report, model card."""
