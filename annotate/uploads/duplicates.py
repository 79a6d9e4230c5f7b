"""Finding an id that occurs twice in one upload."""

import hashlib


def id_digest(external_id: str) -> int:
    """64 bits of a digest of an id, as a signed number, however long the id is.

    Two different ids have the same one with a chance of less than 1 in 10 million for a million ids.
    """
    return int.from_bytes(
        hashlib.blake2b(external_id.encode(), digest_size=8).digest(), "little", signed=True
    )
