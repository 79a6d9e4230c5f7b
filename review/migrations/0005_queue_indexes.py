from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('review', '0004_overlap_known_items_and_arms'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='reviewtask',
            name='task_open',
        ),
        migrations.RemoveIndex(
            model_name='reviewtask',
            name='task_state',
        ),
        migrations.AddIndex(
            model_name='reviewtask',
            index=models.Index(fields=['round', 'state', 'assigned_to', 'rank', 'copy', 'is_counted'], name='task_queue'),
        ),
        migrations.AddIndex(
            model_name='reviewtask',
            index=models.Index(fields=['item', 'round', 'holder'], name='task_of_person'),
        ),
    ]
