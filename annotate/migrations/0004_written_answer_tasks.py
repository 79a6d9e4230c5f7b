from django.db import migrations, models


class Migration(migrations.Migration):
    """Two kinds of task whose answers are written."""

    dependencies = [("annotate", "0003_kept_answers")]

    operations = [
        migrations.AlterField(
            model_name="project",
            name="task_type",
            field=models.CharField(
                choices=[
                    ("image_classification", "Image classification"),
                    ("text_classification", "Text classification"),
                    ("closed_vqa", "Closed visual question answering"),
                    ("image_text_agreement", "Image–text agreement"),
                    ("rated_answer", "Written answer, rated"),
                    ("written_facts", "Long answer, checked fact by fact"),
                ],
                max_length=32,
            ),
        )
    ]
