from django.apps import AppConfig


class ReviewConfig(AppConfig):
    name = "review"

    def ready(self) -> None:
        from annotate.examples import register_example_source
        from jobs.work import register
        from review import decisions, exporting

        register(exporting.Exporting())
        register_example_source(decisions.corrected_labels)
