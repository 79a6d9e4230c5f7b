import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("annotate", "0010_routed"),
        ("review", "0009_export_goes_on"),
    ]

    operations = [
        migrations.AlterField(
            model_name="reviewtask",
            name="item",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="review_tasks",
                to="annotate.item",
            ),
        ),
        migrations.AlterField(
            model_name="reviewtask",
            name="round",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="tasks",
                to="review.reviewround",
            ),
        ),
    ]
