from django.apps import AppConfig


class CriticizeConfig(AppConfig):
    name = "criticize"

    def ready(self) -> None:
        from criticize import criticizers, judging
        from jobs.work import register

        register(criticizers.PromptedCriticism())
        register(criticizers.TrainedCriticism())
        register(judging.WrittenCriticism())
