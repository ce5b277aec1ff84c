"""Batches on disk: files of requests, their results, and what is known of each batch.

    STATE/batches/
      lock                    whose flock a worker holds while it runs batches: one at a time
      open/OWNER.BATCH        one empty file for each batch that is not over
      OWNER/FILE              a file's bytes, OWNER/FILE.json what is known of it (written last)
      OWNER/BATCH.json        a batch; OWNER/BATCH.cancel: its owner wants it cancelled
      OWNER/BATCH.output, BATCH.errors   results while it runs; files of its owner once it is over

OWNER is a key's id, or `local`. Records are replaced whole and are on the disk before anyone is
told; results are only appended. One process writes a batch after it was made: who has the lock.
"""

from er.batches.lines import LINES_MAX, Line
from er.batches.records import Batch, Counts, File, Problem, Status
from er.batches.results import Results
from er.batches.store import Full, NotThere, Store, Upload

__all__ = [
    "LINES_MAX",
    "Batch",
    "Counts",
    "File",
    "Full",
    "Line",
    "NotThere",
    "Problem",
    "Results",
    "Status",
    "Store",
    "Upload",
]
