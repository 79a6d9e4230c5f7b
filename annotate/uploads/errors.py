"""The ways an upload can fail, both told in the user's words."""


class UploadError(Exception):
    """The file as a whole cannot be used. `sentence` says why and what to do about it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class NotAHeader(UploadError):
    """The first line of a table cannot name its columns."""


class RowProblem(Exception):
    """One row or one image cannot be used; the rest of the file can. `sentence` says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
