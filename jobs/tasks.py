from celery import shared_task

from jobs import liveness, running, services


@shared_task
def run_chunk(job_id: int) -> None:
    running.run_next_chunk(job_id)


@shared_task
def sweep() -> None:
    liveness.beat()
    services.sweep()
