from django.apps import AppConfig


class AnnotateConfig(AppConfig):
    name = "annotate"

    def ready(self) -> None:
        from annotate import annotators, combined, extracting, importing, vectors_work, writing
        from jobs.work import register

        register(annotators.PromptedAnnotation())
        register(annotators.TrainedAnnotation())
        register(writing.WrittenAnnotation())
        register(extracting.SpanAnnotation())
        register(combined.Discussion())
        register(combined.Vote())
        register(importing.Import())
        register(vectors_work.VectorWork())
