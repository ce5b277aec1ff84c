"""`er embed`: a file of texts through the service into a file of vectors; goes on where it was."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from er.cli import embed_run
from er.cli.bench_load import Where, Wrong
from er.cli.embed_ask import Hopeless, Unreached
from er.cli.embed_out import ENDINGS, JsonLines, Parquet, Writer, into_place
from er.cli.embed_part import Part, PartError, Plan
from er.cli.embed_rows import Columns, Damaged, Reading, Row, Source, TooManyColumns
from er.cli.embed_run import LISTED, Progress, Stop
from er.cli.screen import age, clean
from er.config import directory

LIMITS = {"inputs": 2048, "clients": 1024, "dimensions": 1 << 16}
KEY = "ER_API_KEY"
FULL = (errno.ENOSPC, errno.EDQUOT)
STDIN = "-"


class Common(msgspec.Struct, kw_only=True):
    """What the command line asked for, with Ray or without. None = not said."""

    file: str
    field: str = "text"
    plain: bool = False
    vector: str = "embedding"
    model: str | None = None
    query: bool = False
    document: bool = False
    instruction: str | None = None
    dimensions: int | None = None
    cut: bool = False
    bad: Literal["stop", "skip"] = "stop"
    inputs: int = 256
    clients: int = 8
    key_file: Path | None = None
    force: bool = False

    @property
    def kind(self) -> str | None:
        return "query" if self.query else "document" if self.document else None

    def again(self, output: str) -> str:
        """What to type to go on."""
        words = ["er", "embed", self.file, "-o", output]
        for field in msgspec.structs.fields(type(self)):
            value = getattr(self, field.name)
            if field.name in ("file", "output", "force") or value == field.default:
                continue
            for one in value if isinstance(value, list) else [value]:
                words.append("--" + field.name.replace("_", "-"))
                words += [] if one is True else [str(one)]
        return shlex.join(words) + (" (with the same input)" if self.file == STDIN else "")

    def check(self) -> None:
        """Raises ValueError for what nobody can do."""
        for name, most in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"--{name} {value}: from 1 to {most}")
        if self.vector == self.field:
            raise ValueError(f"--vector and --field are both {self.field!r}")
        if self.instruction and self.document:
            raise ValueError("--instruction is for queries; leave it or --document out")

    def key(self) -> str:
        """The key that goes with --url. Raises ValueError."""
        path = self.key_file
        if path is None:
            return os.environ.get(KEY, "")
        try:
            key = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ValueError(f"--key-file {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            key = ""
        if not key.isascii() or len(key.split()) != 1:
            raise ValueError(f"--key-file {path}: it must hold one key, and nothing else")
        return key


class Wish(Common, kw_only=True):
    """What the command line asked for without Ray."""

    output: Path
    url: str | None = None


class Scanned(msgspec.Struct, frozen=True, kw_only=True):
    """What a first look at the input told."""

    rows: int
    digest: str
    kinds: dict[str, str]  # of the columns, for Parquet


def run(wish: Wish) -> int:
    """Embed it. Returns 0 when all is written, 1 when not, 64 for wrong use."""
    try:
        where, key = _where(wish)
    except ValueError as error:
        print(f"er embed: {error}", file=sys.stderr)
        return 64
    except OSError as error:  # a folder that may not be looked into
        print(f"er embed: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    job = _Job(wish, where, key)
    try:
        job.run()
    except (Stop, PartError, Damaged) as error:
        return job.ended(clean(error))
    except (Hopeless, Wrong) as error:
        return job.ended(job.refused(clean(error)))
    except Unreached as error:
        return job.ended(job.unreached(error.args[0]))
    except KeyboardInterrupt:
        return job.ended("interrupted")
    except OSError as error:
        return job.ended(job.why(error))
    finally:
        job.close()
    return 0


def _where(wish: Wish) -> tuple[Where, str]:
    """Whom to ask, with which key. Raises ValueError for what can't be asked."""
    if wish.output.suffix not in ENDINGS:
        raise ValueError(f"-o {wish.output}: the name must end in one of: {', '.join(ENDINGS)}")
    wish.check()
    if wish.output.is_dir():
        raise ValueError(f"-o {wish.output}: that is a folder")
    source = Path(wish.file)
    if (
        wish.file != STDIN
        and source.exists()
        and wish.output.exists()
        and wish.output.samefile(source)
    ):
        raise ValueError("the output is the input; give it another name")
    if wish.url is None:
        if wish.key_file is not None:
            raise ValueError("--key-file goes with --url; gateway.sock takes no key")
        return Where(directory("runtime") / "gateway.sock"), ""
    return Where.parse(wish.url), wish.key()


class _Job:
    """One run of the command."""

    def __init__(self, wish: Wish, where: Where, key: str) -> None:
        self._wish, self._where, self._key = wish, where, key
        self._parquet = ENDINGS[wish.output.suffix] == "parquet"
        self._writing = Path(f"{wish.output}.writing")
        self._part: Part | None = None
        self._open = contextlib.ExitStack()
        self.progress = Progress(sys.stderr)

    def close(self) -> None:
        """Leave nothing open; what was done stays in the work file."""
        self.progress.end()
        if self._part is not None:
            if not self._part.rows and not self._part.written:
                self._part.remove()
            self._part.close()
        self._open.close()

    def run(self) -> None:
        """All of it. Raises Stop, PartError, Hopeless, Wrong, OSError."""
        wish, path = self._wish, Path(f"{self._wish.output}.part")
        if not wish.force and wish.output.exists() and not path.exists():
            raise Stop(f"{wish.output} is there already; to write it anew: --force")
        folder = wish.output.absolute().parent
        if not folder.is_dir():
            raise Stop(f"there is no folder {folder}; make it, or name another output")
        source = self._source()
        scanned = self._scan(source)
        part = self._part = Part(path, anew=wish.force)
        plan = self._plan(scanned, source)
        if part.written and wish.output.exists() and not self._writing.exists():
            self._end_written(plan, part)
            return
        asked = embed_run.Asked(
            where=self._where,
            key=self._key,
            plan=plan,
            cut=wish.cut,
            skip=wish.bad == "skip",
            inputs=wish.inputs,
            clients=wish.clients,
            output=wish.output,
            lines=not self._parquet,
        )
        began, before = time.monotonic(), (part.rows, part.tokens)
        embed_run.embed(asked, source, part, self.progress)
        took = time.monotonic() - began
        self._assemble(source, scanned, part)
        self.progress.end()
        print(
            summary(
                str(wish.output),
                rows=part.rows,
                tokens=part.tokens,
                missing=part.missing,
                cut=part.cut,
                before=before,
                took=took,
            )
        )

    def _plan(self, scanned: Scanned, source: Source) -> Plan:
        wish = self._wish
        return Plan(
            digest=scanned.digest,
            rows=scanned.rows,
            plain=source.plain,
            field=wish.field,
            model=wish.model or "",
            kind=wish.kind,
            instruction=wish.instruction,
            dimensions=wish.dimensions,
            overwrite=wish.force,
        )

    def _end_written(self, plan: Plan, part: Part) -> None:
        """The run before was killed when all was done but its work file. Raises Stop."""
        begun, output = part.plan, self._wish.output
        assert begun is not None
        other = msgspec.structs.replace(plan, model=plan.model or begun.model).differs(begun)
        part.remove()
        if other:
            raise Stop(
                f"{output} is there already, with another {other}; to write it anew: --force"
            )
        print(f"{output} was whole already")

    def why(self, error: OSError) -> str:
        """What went wrong with a file, and what to do."""
        if error.errno in FULL:
            folder = self._wish.output.absolute().parent
            return f"no space is left on the disk of {folder}; make room there"
        return f"{error.filename or self._wish.output}: {error.strerror or error}"

    def refused(self, why: str) -> str:
        """The service's no, and what to do."""
        if why.startswith("401 ") and not self._key:
            return f"{why}; here: --key-file FILE, or the variable {KEY}"
        return why

    def unreached(self, error: OSError) -> str:
        """Why nobody answers, and what to do."""
        if self._where.path is None:
            return f"{self._wish.url}: {error.strerror or error}"
        if isinstance(error, PermissionError):
            return f"{self._where.path} is for root and members of group er: use sudo, or --url"
        text = error.strerror or error
        return (
            f"no gateway answers at {self._where.path} ({text}); start it, or name one with --url"
        )

    def ended(self, why: str) -> int:
        """Say why it ended before its end, and how to go on."""
        self.progress.end()
        print(f"er embed: {why}", file=sys.stderr)
        part = self._part
        if part is not None and part.plan is not None and part.rows and part.path.exists():
            done = f"{part.rows:,} of {part.plan.rows:,} rows are done and kept in {part.path}"
            print(
                f"{done}. To go on:\n  {self._wish.again(str(self._wish.output))}", file=sys.stderr
            )
        return 1

    # -- the input -----------------------------------------------------------------------------

    def _source(self) -> Source:
        wish = self._wish
        made: dict[str, Any] = {"plain": wish.plain, "field": wish.field}
        path = Path(wish.file)
        if wish.file != STDIN and (path.is_file() or not path.exists()):
            name = path.with_suffix("") if path.suffix == ".gz" else path
            made["plain"] = wish.plain or name.suffix == ".txt"
            return Source(path=path, **made)
        # A pipe, and it is read more than once. Beside the output is room for as much anyway.
        folder = wish.output.absolute().parent
        spool = self._open.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - is one
        with sys.stdin.buffer if wish.file == STDIN else path.open("rb") as pipe:
            shutil.copyfileobj(pipe, spool)
        return Source(spool=spool, **made)

    def _scan(self, source: Source) -> Scanned:
        """Read all of it once: how much it is, and whether each row can be asked. Raises Stop."""
        wish, reading, columns = self._wish, Reading(source), Columns()
        count = wrong = 0
        for row in reading:
            count += 1
            self.progress.show(f"reading {source.name}: {count:,} rows")
            if wish.vector in row.value:
                why = f"has a field {wish.vector}, as the vectors' would be; choose --vector NAME"
                raise Stop(f"{source.name}: line {row.line} {clean(why)}")
            if row.wrong:
                wrong += 1
                if wrong <= LISTED:
                    self.progress.say(f"line {row.line} {clean(row.wrong)}")
            elif self._parquet:
                self._note(columns, row)
        if wrong > LISTED:
            self.progress.say(f"and {wrong - LISTED:,} lines more")
        if wrong and wish.bad == "stop":
            cure = "correct them, or leave them out with --bad skip"
            if wrong == count and not source.plain:
                cure = "name the text's field by --field, or say --plain if each line is a text"
            raise Stop(f"{source.name}: {wrong:,} of {count:,} rows can't be embedded; {cure}")
        if wrong == count:
            raise Stop(f"{source.name} has no row that can be embedded")
        return Scanned(rows=count, digest=reading.digest, kinds=columns.kinds())

    def _note(self, columns: Columns, row: Row) -> None:
        try:
            columns.add(row.value)
        except TooManyColumns:
            cure = "a table is not for that: write .jsonl"
            raise Stop(f"over 1000 different fields by line {row.line}; {cure}") from None

    # -- the output ----------------------------------------------------------------------------

    def _assemble(self, source: Source, scanned: Scanned, part: Part) -> None:
        """Rows and vectors into the output. Raises Stop, OSError."""
        wish = self._wish
        if not part.dimensions:
            part.remove()
            raise Stop(f"no row of {source.name} could be embedded")
        reading = Reading(source)
        rows = iter(reading)
        try:
            writer: Writer
            if self._parquet:
                writer = Parquet(self._writing, wish.vector, scanned.kinds, part.dimensions)
            else:
                writer = JsonLines(self._writing, wish.vector)
            for done, found in part.results():
                self.progress.show(f"writing {wish.output}: {done.first:,} of {part.rows:,} rows")
                gone = set(done.missing)
                block = enumerate(islice(rows, done.count))
                good = [row for i, row in block if i not in gone]
                if len(good) != len(found):
                    break
                writer.add(good, found)
            writer.close()
            if sum(1 for _ in rows) or reading.digest != scanned.digest:
                raise Stop(f"{source.name} was changed meanwhile; begin anew with --force")
        except BaseException:
            self._writing.unlink(missing_ok=True)
            raise
        part.note_written()
        into_place(self._writing, wish.output)
        part.remove()


def summary(
    output: str,
    *,
    rows: int,
    tokens: int,
    missing: int,
    cut: int,
    before: tuple[int, int],
    took: float,
) -> str:
    """What was done, in a line; `before` are the rows and tokens of earlier runs."""
    text = f"{output}: {rows - missing:,} rows, {tokens:,} tokens"
    if missing:
        text += f", {missing:,} rows left out"
    if cut:
        text += f", {cut:,} texts cut"
    new, new_tokens = rows - before[0], tokens - before[1]
    if new and took > 0:
        now = f", {new:,} rows this time" if before[0] else ""
        text += f" ({age(took)}{now}, {new / took:,.0f} rows/s, {new_tokens / took:,.0f} tokens/s)"
    return text
