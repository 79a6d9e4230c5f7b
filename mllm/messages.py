"""What is said to a model and what it answers, the same for every provider."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is sent: encoded bytes and their media type, made by `mllm.images.prepare`."""

    data: bytes
    media_type: str

    def __repr__(self) -> str:
        return f"Image({self.media_type}, {len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class Request:
    """One call: a stable system text and one user turn whose parts are sent in order.

    `schema` is a JSON schema that the answer must follow. `top_logprobs` is how many alternatives are wanted
    beside each answered token; 0 asks for no log-probabilities. `temperature` None leaves it to the provider.
    """

    model: str
    system: str
    parts: tuple[str | Image, ...]
    max_tokens: int = 512
    temperature: float | None = 0.0
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image))


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One answered token with its natural-log probability; `top` holds alternatives, most probable first.

    The tokens of an answer spell it: a character that is split over several belongs to the last of them, and the
    others are empty, where the server tells the bytes.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer. `finish_reason` is "stop", "length", or the provider's own word.

    `input_tokens` counts every input token, `cached_tokens` those among them that came from the provider's
    prompt cache; `is_estimated` where a stream's provider did not tell them. `latency` is seconds for the attempt that
    succeeded, without the time in which a stream waited for its reader; `attempts` counts failed ones too.
    """

    text: str
    reasoning: str
    model: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    logprobs: tuple[TokenLogprob, ...]
    latency: float
    attempts: int = 1
    request_id: str = ""
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingRequest(Request):
    """One call for the vectors of the texts that are its parts. What else a request has is of no meaning here."""

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Embeddings(Reply):
    """The vectors of the texts of one call, in their order: finite float32 numbers, all of the same length."""

    vectors: tuple["array[float]", ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of a call so far. `is_estimated`: some of them are an estimate, or older than what was written."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    is_estimated: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer; the last one has empty text and carries the whole `Reply`.

    `usage` is what the provider has told of the call so far, None before it told anything.
    """

    text: str
    reasoning: str = ""
    reply: Reply | None = None
    usage: Usage | None = None
