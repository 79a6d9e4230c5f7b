from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotate", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="upload",
            name="columns",
            field=models.JSONField(default=list, help_text="The file's columns in their order."),
        ),
    ]
