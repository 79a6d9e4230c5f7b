from django.apps import AppConfig


class ReviewConfig(AppConfig):
    name = "review"

    def ready(self) -> None:
        from jobs.work import register
        from review import exporting

        register(exporting.Exporting())
