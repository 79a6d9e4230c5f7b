from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from annotate.models import Connection, Membership, ModelPrice, Project, Upload, User

admin.site.site_header = "Overread"
admin.site.register(User, UserAdmin)


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    extra = 0


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "task_type", "created_by", "created_at"]
    list_filter = ["task_type"]
    search_fields = ["name"]
    inlines = [MembershipInline]


@admin.register(Upload)
class UploadAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["filename", "project", "state", "imported", "rejected", "created_at"]
    list_filter = ["state"]
    raw_id_fields = ["project", "job", "created_by"]


@admin.register(Connection)
class ConnectionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Keys are neither shown nor set here: the connection's own page encrypts them."""

    list_display = ["name", "provider", "owner", "has_key"]
    exclude = ["encrypted_key"]
    readonly_fields = ["provider", "owner", "base_url", "key_variable"]


@admin.register(ModelPrice)
class ModelPriceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["provider", "model", "input", "output", "cached_input", "updated_at"]
