"""The names of the configuration groups, from the first comment of each YAML file."""

from __future__ import annotations

from importlib import resources

from markdown_tables import code, prose, table

from nlp_transfer.config.groups import ADDED_GROUPS, CONFIG_MODULE, GROUPS, group_options

TITLES = {
    "task": "Tasks",
    "checkpoint": "Checkpoints",
    "dataset": "Datasets",
    "strategy": "Strategies",
    "search": "Searches",
}


def markdown() -> str:
    """A table a group."""
    parts = []
    for group in GROUPS:
        plus = "+" if group in ADDED_GROUPS else ""
        rows = [
            (code(f"{plus}{group}={name}"), prose(sentence), *_stands_for(group, name))
            for name, sentence in group_options(group)
        ]
        head = ("typed", "meaning", *(("stands for",) if len(rows[0]) > 2 else ()))
        parts.append(f"## {TITLES[group]}\n\n{table(head, rows)}")
    return "\n".join(parts)


def _stands_for(group: str, name: str) -> tuple[str, ...]:
    """The name on the Hub, where the group's YAML holds one."""
    if group not in ("checkpoint", "dataset"):
        return ()
    file = resources.files(CONFIG_MODULE).joinpath(group, f"{name}.yaml")
    lines = file.read_text("utf-8").splitlines()
    values = dict(line.split(": ", 1) for line in lines if ": " in line and line[0] not in "# ")
    subset = f" ({values['subset']})" if "subset" in values else ""
    known = values.get("name", "null") != "null"
    return ((code(values["name"]) + prose(subset)) if known else "",)
