"""The label column: how it is read, parsed, merged and described."""
