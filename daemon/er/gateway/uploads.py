"""A file that is uploaded: multipart/form-data to the disk as it comes, never in memory."""

from __future__ import annotations

from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from er.batches import File, Store, Upload
from er.gateway.exchange import Request
from er.gateway.surely import in_thread
from er.job import Refusal
from er.quantities import bytes_text

UPLOAD_S = 3600.0  # for all of it
FIELD_MAX = 8 << 10  # bytes of a field beside the file, and of a part's headers
FORM_MAX = 64 << 10  # bytes of a form beside its file
PARTS_MAX = 64  # fields of a form; each costs as much as many bytes of a file
TOGETHER = 1 << 20  # bytes that are written at once
NAME_MAX = 255
EXAMPLE = (
    "curl HOST:2048/v1/files -H 'Authorization: Bearer …' -F purpose=batch -F file=@FILE.jsonl"
)


async def receive(request: Request, store: Store, owner: str, max_file: int) -> File:
    """Keep the file in the body of `request`, at most `max_file` bytes, for `owner`.

    Raises Refusal 400, 408, 413, 415; Gone; OSError when the disk takes it not, Full for the quota.
    """
    kind, options = parse_options_header(request.head.headers.get(b"content-type", b""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        _refuse(f"a file is sent as multipart/form-data, as by {EXAMPLE}")
    declared = request.head.length or 0
    if declared > max_file + FORM_MAX:
        raise too_large(declared, max_file)
    form = _Form(boundary, max_file)
    upload: Upload | None = None
    try:
        upload = await in_thread(store.upload, owner, declared)
        came = 0
        async for piece in request.pieces(UPLOAD_S):
            came += len(piece)
            if came > max_file + FORM_MAX:
                raise too_large(came, max_file)
            form.feed(piece)
            if form.held >= TOGETHER:
                await in_thread(upload.write, form.taken())
        form.end()
        await in_thread(upload.write, form.taken())
        kept, upload = await in_thread(upload.keep, form.filename), None
        return kept
    finally:
        if upload is not None:
            await in_thread(upload.drop)


def too_large(size: int, limit: int) -> Refusal:
    """413 for a file of `size` bytes, or one that has so many by now."""
    return Refusal(
        413,
        "file_too_large",
        f"the file has {size} bytes ({bytes_text(size)}) or more; at most {limit} "
        f"({bytes_text(limit)}) are taken. Send several files, or raise max_file in [batches] of "
        "er.toml",
        param="file",
        headers={"connection": "close"},
    )


def _refuse(message: str, param: str | None = None) -> NoReturn:
    closing = {"connection": "close"}
    raise Refusal(400, "invalid_request", message, param=param, headers=closing)


class _Form:
    """The parts of a form as they come; of the file only what was not taken yet is held."""

    def __init__(self, boundary: bytes, max_file: int) -> None:
        self.filename = ""
        self.held = 0
        self._came = self._parts = 0
        self._max_file = max_file
        self._pieces: list[bytes] = []
        self._size = 0
        self._fields: dict[str, bytes] = {}
        self._header, self._value = b"", b""
        self._disposition = b""
        self._name: str | None = None  # of the part that comes
        self._whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part,
                    "on_header_field": self._field,
                    "on_header_value": self._more,
                    "on_header_end": self._headed,
                    "on_headers_finished": self._begin,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            _refuse(f"this is no multipart/form-data: {error}")

    def feed(self, piece: bytes) -> None:
        """Read on. Raises Refusal."""
        if not piece:
            return
        self._came += len(piece)
        if self._came > self._max_file + FORM_MAX:
            raise too_large(self._came, self._max_file)
        try:
            self._parser.write(piece)
        except FormParserError:
            _refuse(f"this is no multipart/form-data as it should be; send it as by {EXAMPLE}")

    def taken(self) -> bytes:
        """What has come of the file since the last time."""
        data = b"".join(self._pieces)
        self._pieces, self.held = [], 0
        return data

    def end(self) -> None:
        """All has come. Raises Refusal if that was no file for a batch."""
        if not self._whole:
            _refuse("the form ends too early; was it cut off on its way?")
        self._check_purpose("purpose" in self._fields)
        if "purpose" not in self._fields:
            _refuse('purpose is missing; it must be "batch"', "purpose")
        if "file" not in self._fields:
            _refuse(f"file is missing; send it as by {EXAMPLE}", "file")
        if not self._size:
            _refuse("the file is empty; a batch has a line for each request", "file")

    def _check_purpose(self, known: bool) -> None:
        if known and self._fields["purpose"].strip() != b"batch":
            said = self._fields["purpose"][:40].decode("utf-8", "replace")
            _refuse(f'purpose is {said!r}; files here are for batches: "batch"', "purpose")

    # -- told by the parser ------------------------------------------------------------------

    def _part(self) -> None:
        self._header = self._value = self._disposition = b""
        self._name = None
        self._parts += 1
        if self._parts > PARTS_MAX:
            _refuse(f"the form has more than {PARTS_MAX} fields; send it as by {EXAMPLE}")

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _headed(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _begin(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name in self._fields and name in ("file", "purpose"):
            _refuse(f"{name} stands in the form twice; send it once", name)
        self._name = name
        self._fields[name] = b""
        if name == "file":
            told = options.get(b"filename", b"").decode("utf-8", "replace").replace("\\", "/")
            shown = "".join(c for c in told.rpartition("/")[2] if c.isprintable())
            self.filename = shown[:NAME_MAX] or "file.jsonl"
            self._check_purpose("purpose" in self._fields)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._size += end - start
            if self._size > self._max_file:
                raise too_large(self._size, self._max_file)
            self._pieces.append(data[start:end])
            self.held += end - start
            return
        assert self._name is not None
        known = self._fields[self._name]
        if len(known) + end - start > FIELD_MAX:
            _refuse(f"the field {self._name[:40]} is longer than {FIELD_MAX} bytes")
        self._fields[self._name] = known + data[start:end]

    def _end(self) -> None:
        self._whole = True
