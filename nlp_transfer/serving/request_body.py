"""What a request asks: its body, read within limits, and the texts in it."""

from __future__ import annotations

import asyncio
import codecs
import json
from typing import Annotated

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError
from starlette.requests import ClientDisconnect

from nlp_transfer.data.cells import is_blank
from nlp_transfer.serving.batcher import Limits, Refused

DISCARDED = 16 << 20  # bytes of a body that is too large; then the connection is cut
BODY_SECONDS = 20.0  # a body that comes slower than this is given up
BLANK = "string_pattern_mismatch"  # pydantic's name for a text without a sign
EXPECTED = '{"text": "…"} or {"texts": ["…", "…"]}'


def _visible(text: str) -> str:
    if is_blank(text):
        raise PydanticCustomError(BLANK, "expected a text, found none")
    return text


Text = Annotated[str, StringConstraints(pattern=r"\S"), AfterValidator(_visible)]


class ClassifyRequest(BaseModel):
    """One text, or several; for a model of text pairs the second text of each."""

    model_config = ConfigDict(extra="forbid")

    text: Text | None = None
    text_pair: Text | None = None
    texts: list[Text] | None = None
    text_pairs: list[Text] | None = None

    def parts(self, limits: Limits) -> tuple[list[str], list[str] | None]:
        """Texts and their pairs.

        Raises:
            Refused: if they do not fit together, or are too many or too long.
        """
        texts, pairs = self._fitting(limits.texts)
        size = sum(map(len, (*texts, *(pairs or ()))))
        if size > limits.characters:
            raise Refused(
                422, f"expected at most {limits.characters} characters a request, found {size}."
            )
        return texts, pairs

    def _fitting(self, most: int) -> tuple[list[str], list[str] | None]:
        if (self.text is None) == (self.texts is None):
            raise Refused(422, 'expected either "text" or "texts".')
        if self.text is not None:
            if self.text_pairs is not None:
                raise Refused(422, 'expected "text_pair" beside "text", found "text_pairs".')
            return [self.text], None if self.text_pair is None else [self.text_pair]
        texts = self.texts or []
        if not 1 <= len(texts) <= most:
            raise Refused(422, f"expected 1 to {most} texts, found {len(texts)}.")
        if self.text_pair is not None:
            raise Refused(422, 'expected "text_pairs" beside "texts", found "text_pair".')
        if self.text_pairs is not None and len(self.text_pairs) != len(texts):
            raise Refused(
                422, f"expected as many text_pairs as texts, {len(texts)}: {len(self.text_pairs)}."
            )
        return texts, self.text_pairs


async def read_body(request: Request, most: int) -> bytes:
    """The body; of one that is too large the rest is thrown away, so that its sender can listen."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise Refused(415, f"the body is {encoding[:20]}: send it without a Content-Encoding.")
    content, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= most:
                    content += chunk
                elif size > most + DISCARDED:
                    break
    except ClientDisconnect as error:
        raise Refused(400, "the body ended early.") from error
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {BODY_SECONDS:g} s.") from error
    if size > most:
        raise Refused(413, f"the body has more than the {most} bytes that are read.")
    return bytes(content)


def parse(content: bytes) -> ClassifyRequest:
    """The request of a body in JSON.

    Raises:
        Refused: it is none, or has a key twice, of which one would be unanswered.
    """
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        # By pydantic's own parser: it takes no NaN, half surrogates or endless nesting.
        request = ClassifyRequest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        words = {
            BLANK: f"{where}: expected a text, found none",
            "extra_forbidden": f"{where} is not a key; expected {EXPECTED}.",
            "json_invalid": f"expected {EXPECTED} as JSON: {first['msg']}",
        }
        reason = words.get(first["type"], f"{where or 'body'}: {first['msg']}")
        raise Refused(422, reason[:300]) from error
    keys = json.loads(content, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    twice = [key for place, key in enumerate(keys) if key in keys[:place]]
    if twice:
        raise Refused(422, f"{twice[0]} stands twice; give it once.")
    return request
