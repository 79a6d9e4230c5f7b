from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class ReviewConfig(AppConfig):
    name = "review"

    def ready(self) -> None:
        from annotate.examples import register_example_source
        from annotate.models import Membership, User
        from jobs.work import register
        from review import decisions, exporting, leaving

        register(exporting.Exporting())
        register_example_source(decisions.corrected_labels)
        post_delete.connect(leaving.member_left, sender=Membership)
        post_save.connect(leaving.member_changed, sender=Membership)
        post_save.connect(leaving.account_changed, sender=User)
