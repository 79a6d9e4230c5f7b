from django.apps import AppConfig


class AnnotateConfig(AppConfig):
    name = "annotate"

    def ready(self) -> None:
        from annotate import annotators, importing
        from jobs.work import register

        register(annotators.PromptedAnnotation())
        register(annotators.TrainedAnnotation())
        register(importing.Import())
