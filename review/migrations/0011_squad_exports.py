from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('review', '0010_fewer_task_indexes'),
    ]

    operations = [
        migrations.AlterField(
            model_name='export',
            name='format',
            field=models.CharField(choices=[('csv', 'CSV'), ('jsonl', 'JSON Lines'), ('parquet', 'Parquet'), ('imagefolder', 'Image folder'), ('squad', 'SQuAD JSON')], default='csv', max_length=16),
        ),
    ]
