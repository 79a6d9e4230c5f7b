"""How many tokens a request takes, before it is sent. Estimates only: each model counts in its own way."""

import io
import json
import math
from dataclasses import replace
from functools import lru_cache

from mllm.messages import Image, Request, Usage

_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4

# The tile rule of the GPT-4o family: fit into 2048 × 2048, shorter side to 768, then tiles of 512 × 512.
_BASE_TOKENS = 85
_TILE_TOKENS = 170


def estimate_tokens(request: Request) -> int:
    """An estimate of the input tokens, usually within a third of what is charged for English.

    Text counts a token for four bytes of UTF-8, so that scripts with three bytes a letter count more.
    """
    texts = [request.system, *(part for part in request.parts if isinstance(part, str))]
    if request.schema is not None:
        texts.append(json.dumps(dict(request.schema)))
    text_tokens = sum(math.ceil(len(text.encode()) / _BYTES_PER_TOKEN) for text in texts)
    messages = 2 if request.system else 1
    return text_tokens + messages * _TOKENS_PER_MESSAGE + sum(map(image_tokens, request.images))


def usage_of(request: Request, written: str, told: Usage | None) -> Usage:
    """The tokens of a call that wrote this much: the provider's figures where it told them, else estimates.

    Of a figure that is older than what was written at least as much is taken as it says.
    """
    told = told or Usage(0, 0, is_estimated=True)
    at_least = math.ceil(len(written.encode(errors="replace")) / _BYTES_PER_TOKEN)
    if told.is_estimated or (at_least and not told.output_tokens):
        told = replace(told, output_tokens=max(told.output_tokens, at_least), is_estimated=True)
    if not told.input_tokens:
        told = replace(told, input_tokens=estimate_tokens(request), is_estimated=True)
    return told


@lru_cache(maxsize=256)
def image_tokens(image: Image) -> int:
    """An estimate for one image by the tile rule; that of four tiles where its size cannot be read."""
    from PIL import Image as PillowImage

    try:
        with PillowImage.open(io.BytesIO(image.data)) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError):
        return _BASE_TOKENS + 4 * _TILE_TOKENS
    return _BASE_TOKENS + _TILE_TOKENS * tile_count(width, height)


def tile_count(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    return math.ceil(round(width * scale) / 512) * math.ceil(round(height * scale) / 512)
