import pytest
from django.db import OperationalError, transaction

from review.services.deadlocks import again_after_deadlock

pytestmark = pytest.mark.django_db(transaction=True)


class Ended(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def ending(times: int, sqlstate: str = "40P01"):
    """An act that a deadlock ends so many times, and how often it was tried."""
    tried: list[int] = []

    @again_after_deadlock
    def act(value: int) -> int:
        tried.append(value)
        if len(tried) <= times:
            raise OperationalError from Ended(sqlstate)
        return value

    return act, tried


def test_what_a_deadlock_ended_is_done_again():
    act, tried = ending(3)
    assert act(7) == 7
    assert tried == [7] * 4


def test_it_is_given_up_at_last():
    act, tried = ending(100)
    with pytest.raises(OperationalError):
        act(1)
    assert len(tried) == 6


def test_other_errors_and_those_of_an_outer_transaction_are_not_tried_again():
    act, tried = ending(1, sqlstate="57P01")
    with pytest.raises(OperationalError):
        act(1)
    inner, of_inner = ending(1)
    with pytest.raises(OperationalError), transaction.atomic():
        inner(1)
    assert len(tried) == len(of_inner) == 1
