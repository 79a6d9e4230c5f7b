from celery import shared_task

from jobs import answers, liveness, running, services, unwritten


@shared_task
def run_chunk(job_id: int) -> None:
    running.run_next_chunk(job_id)


@shared_task
def sweep() -> None:
    liveness.beat()
    services.sweep()


@shared_task
def forget_old_answers() -> None:
    answers.forget_old()
    unwritten.forget_old()
