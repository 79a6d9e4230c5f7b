from django.apps import AppConfig


class RouteConfig(AppConfig):
    name = "route"

    def ready(self) -> None:
        from jobs.work import register
        from route import routing, training_job

        register(routing.Routing())
        register(training_job.RouterTraining())
