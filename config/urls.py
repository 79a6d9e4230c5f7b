from django.contrib import admin
from django.urls import include, path

from jobs.health import healthz, prometheus, readyz

urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", prometheus, name="metrics"),
    path("admin/", admin.site.urls),
    path("api/v1/", include("config.api_urls")),
    path("", include("annotate.urls")),
    path("", include("criticize.urls")),
    path("", include("review.urls")),
    path("", include("route.urls")),
]
