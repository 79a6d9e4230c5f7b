from django.contrib import admin

from jobs.models import Job


@admin.register(Job)
class JobAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """To look at: jobs are changed by what their pages offer."""

    list_display = ["id", "kind", "state", "failure", "done", "failed", "total", "cost", "created_at"]
    list_filter = ["kind", "state", "failure"]

    def has_add_permission(self, request: object) -> bool:
        return False

    def has_change_permission(self, request: object, obj: Job | None = None) -> bool:
        return False

    def has_delete_permission(self, request: object, obj: Job | None = None) -> bool:
        return False
