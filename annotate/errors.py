class Refusal(Exception):
    """What was asked for cannot be done, for a reason that is the asker's to mend: one sentence in their words."""

    is_conflict = False

    def __init__(self, sentence: str, *, field: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field
