from celery import shared_task

from annotate import sent_again


@shared_task  # type: ignore[untyped-decorator]
def forget_sent_requests() -> None:
    sent_again.forget_old()
