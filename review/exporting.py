"""The work of an export: rows stream into a file, which is published when it is whole."""

import os
from pathlib import Path

import pyarrow as pa
from django.conf import settings

from jobs import shutdown
from jobs.leases import Lease, Progress
from jobs.models import Job
from jobs.work import Work
from review.export_files import CsvWriter, ExportWriter, JsonLinesWriter, ParquetWriter
from review.export_rows import NUMBERS, header, own_columns, rows
from review.models import Export

_ROWS_BETWEEN_SIGNS = 2000
_TYPES = {"item_id": pa.int64(), "selected": pa.bool_()} | dict.fromkeys(NUMBERS, pa.float64())


class Exporting(Work):
    kind = "export"

    def run(self, lease: Lease) -> bool:
        """Write the whole file in one go: an export that is cut off starts again, as nobody has seen any of it."""
        export = Export.objects.select_related("project", "round__criticism_run").get(job=lease.job)
        name = f"exports/{export.project_id}/{export.pk}.{export.format}"
        path = Path(settings.MEDIA_ROOT) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_behind in path.parent.glob(f"{path.name}.*.part"):  # by a process that was killed
            left_behind.unlink(missing_ok=True)
        unfinished = path.with_name(f"{path.name}.{lease.token.hex}.part")
        count = 0
        try:
            columns = own_columns(export)
            with _writer(export, unfinished, header(export, columns)) as writer:
                for row in rows(export, columns):
                    writer.write(row)
                    count += 1
                    if count % _ROWS_BETWEEN_SIGNS == 0 and not self._goes_on(lease, count):
                        return False
            lease.write(lambda: self._publish(export, name, unfinished, count))
        finally:
            unfinished.unlink(missing_ok=True)
        return True

    def _goes_on(self, lease: Lease, count: int) -> bool:
        lease.renew()
        Job.objects.filter(pk=lease.job.pk).update(done=count)
        return lease.may_go_on() and not shutdown.requested()

    def _publish(self, export: Export, name: str, unfinished: Path, count: int) -> Progress:
        """Runs behind the lease's fence, so that only its holder puts a file in its place."""
        size = unfinished.stat().st_size
        os.replace(unfinished, Path(settings.MEDIA_ROOT) / name)
        Export.objects.filter(pk=export.pk).update(file=name, rows=count, size=size)
        Job.objects.filter(pk=export.job_id).update(done=0, total=count)
        return Progress(done=count)


def _writer(export: Export, path: Path, columns: list[str]) -> ExportWriter:
    match export.format:
        case Export.Format.CSV:
            return CsvWriter(path, columns, escape_formulas=export.escape_formulas)
        case Export.Format.JSONL:
            return JsonLinesWriter(path, columns)
        case _:
            return ParquetWriter(path, columns, _TYPES)
