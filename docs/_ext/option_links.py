"""Makes `training.batch_size` and `seed=1` on a page links to their entries in the reference."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform

from nlp_transfer.config.options import STAGE, options

REFERENCE = "reference/options"
KEYS = {option.key for option in options() if "." in option.key and STAGE not in option.key}


class LinkOptions(SphinxPostTransform):
    """Wraps inline code that begins with the key of an option."""

    default_priority = 5  # before references are resolved

    def run(self, **_: Any) -> None:
        """Change the document in place, except for the reference itself."""
        if self.env.docname == REFERENCE:
            return
        for literal in list(self.document.findall(nodes.literal)):
            key = literal.astext().partition("=")[0]
            inside = isinstance(literal.parent, nodes.reference | nodes.title | pending_xref)
            if key not in KEYS or inside:
                continue
            target = {"refdomain": "std", "reftype": "confval", "reftarget": key}
            link = pending_xref(
                "", refdoc=self.env.docname, refexplicit=True, refwarn=True, **target
            )
            literal.replace_self(link)
            link += literal


def setup(app: Any) -> dict[str, bool]:
    """Add the transform to Sphinx."""
    app.add_post_transform(LinkOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
