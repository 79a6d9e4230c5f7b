from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("review", "0002_candidates_priorities_and_audits")]

    operations = [
        migrations.AddField(
            model_name="export",
            name="card",
            field=models.JSONField(
                default=dict, help_text="Its data card, as it was when the file was written."
            ),
        ),
    ]
