"""The page `/docs`: the interface in plain HTML, which loads nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from jinja2 import Environment, PackageLoader, StrictUndefined

# The page loads nothing from elsewhere, and can send a text nowhere else.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
EXAMPLE = '{"texts": ["a text", "another"]}'
PAIRED = '{"texts": ["a text"], "text_pairs": ["its second text"]}'


def documentation(app: FastAPI, name: str, paired: bool, has_keys: bool) -> str:
    """The HTML page, from the OpenAPI description of the application; URL is the server's."""
    environment = Environment(
        loader=PackageLoader("nlp_transfer", "serving"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    api: dict[str, Any] = app.openapi()
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "description": operation.get("description", ""),
            "responses": {
                code: "" if code == "200" else response["description"]
                for code, response in operation["responses"].items()
            },
        }
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = api.get("components", {}).get("schemas", {})
    return environment.get_template("docs.html.j2").render(
        name=name,
        operations=operations,
        answer=schemas.get("Answer", {}).get("properties", {}),
        example=PAIRED if paired else EXAMPLE,
        has_keys=has_keys,
    )
