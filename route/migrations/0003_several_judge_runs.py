from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def keep_the_one(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for router in apps.get_model("route", "Router").objects.exclude(judge_run=None).iterator():
        router.judge_runs.add(router.judge_run_id)


def keep_the_first(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for router in apps.get_model("route", "Router").objects.iterator():
        router.judge_run = router.judge_runs.order_by("pk").first()
        router.save(update_fields=["judge_run"])


class Migration(migrations.Migration):
    """A router among several annotators learns from several comparisons."""

    dependencies = [("route", "0002_comparison_uploads")]

    operations = [
        migrations.AddField(
            model_name="router",
            name="judge_runs",
            field=models.ManyToManyField(related_name="+", to="route.judgerun"),
        ),
        migrations.RunPython(keep_the_one, keep_the_first),
        migrations.RemoveField(model_name="router", name="judge_run"),
        migrations.AlterField(
            model_name="router",
            name="judge_runs",
            field=models.ManyToManyField(related_name="routers", to="route.judgerun"),
        ),
    ]
