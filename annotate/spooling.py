"""Files as they come in with a request, kept in a temporary file each."""

from typing import Any

from django.core.files.uploadhandler import TemporaryFileUploadHandler


class PromptSpooling(TemporaryFileUploadHandler):
    """Django's own, except that half a file goes at once where there is no room for the rest: the room is needed."""

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        try:
            super().receive_data_chunk(raw_data, start)
        except OSError:
            self._drop()
            raise

    def file_complete(self, file_size: int) -> Any:
        try:
            return super().file_complete(file_size)  # writes what is left in its buffer
        except OSError:
            self._drop()
            raise

    def _drop(self) -> None:
        try:
            self.file.close()
        except OSError:  # what was in the buffer had no room either; the file is gone all the same
            return
