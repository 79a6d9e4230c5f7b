class Refusal(Exception):
    """What was asked for cannot be done, for a reason that is the asker's to mend: one sentence in their words.

    `is_conflict`: the state it is in does not allow it. `is_passing`: it can be asked for again in a moment.
    """

    is_conflict = False
    is_passing = False

    def __init__(self, sentence: str, *, field: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.field = field
