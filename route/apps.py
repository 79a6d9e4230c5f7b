from django.apps import AppConfig


class RouteConfig(AppConfig):
    name = "route"

    def ready(self) -> None:
        from jobs.work import register
        from route import comparing, comparison_import, routing, trace_replay, trace_running, training_job

        register(comparing.Comparing())
        register(comparison_import.ComparisonImport())
        register(routing.Routing())
        register(training_job.RouterTraining())
        register(trace_replay.TraceReplay())
        register(trace_running.TracedAnnotation())
