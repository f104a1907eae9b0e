"""``ndframes cache``: list, verify, limit and clear the cache."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..system.terminal import is_terminal
from ..text import parse_bytes
from .common import (
    echo_json,
    echo_table,
    json_option,
    show_path,
    workdir_option,
)

if TYPE_CHECKING:
    from ..cache.cache import Cache
    from ..cache.remover import GcReport
    from ..cache.upkeep import CacheStat

__all__ = ["cache", "verify"]


def _parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Parse a number of bytes with a unit."""
    if value is None:
        return None
    size = parse_bytes(value)
    if size is None:
        raise click.BadParameter(f"{value!r} is not a size; write 500MB, 2.5GB, 1TiB or a number of bytes", ctx, param)
    return size


_dry_run_option = click.option("--dry-run", is_flag=True, help="List what would be removed, and remove nothing.")


@click.group()
def cache() -> None:
    """List, verify, limit and clear the cache.

    Entries are ordinary TIFF, npy and AVI files that other programs can read. They are read-only, and may be deleted at any
    time: missing entries are created again when they are needed.

    \b
    For example:
      ndframes cache ls
      ndframes cache stat
      ndframes cache verify --read-data
      ndframes cache gc --max-bytes 100GB --dry-run
      ndframes cache clear
    """  # noqa: D301 - a backspace keeps click from wrapping the examples


@cache.command("ls", short_help="List the entries.")
@workdir_option
@json_option
def list_entries(*, workdir: str | None, as_json: bool) -> None:
    """List the entries of the cache, newest first: size, time of creation, time of last use, path, and path of the source.

    The source is the file from which the entry was made, if the entry tells. The time of last use is the access time of the file, which most systems update once a day.

    \b
    For example:
      ndframes cache ls
      ndframes cache ls --json | jq '[.entries[].size_bytes] | add'
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..text import count_noun, format_bytes

    store = _open_store(workdir)
    # The path makes the order of entries of the same second reproducible.
    entries = sorted(store.ls(), key=lambda entry: (-entry.mtime, str(entry.path)))
    total = sum(entry.size_bytes for entry in entries)
    origins = dict(zip(entries, store.sources_of(entries), strict=True))
    if as_json:
        listed = [{**entry.to_dict(), "used": entry.used, "source": source} for entry, source in origins.items()]
        echo_json({**_location(store), "total_bytes": total, "entries": listed})
        return
    for entry, source in origins.items():
        times = f"{_format_time(entry.mtime)}  used {_format_time(entry.used)}"
        origin = "" if source is None else f"  from {show_path(source)}"
        click.echo(f"{format_bytes(entry.size_bytes):>9}  {times}  {show_path(entry.key.relative_path)}{origin}")
    click.echo(f"{count_noun(len(entries), 'entry')}, {format_bytes(total)} in {show_path(store.root)}")


@cache.command("stat", short_help="Print counts and sizes.")
@workdir_option
@json_option
def show_stat(*, workdir: str | None, as_json: bool) -> None:
    """Print counts and sizes of the cache: entries, leftovers, free space.

    A superseded entry belongs to an earlier state of its source. 'ndframes cache gc' removes superseded entries, damaged
    entries, and unfinished files of dead processes.

    \b
    For example:
      ndframes cache stat
      ndframes cache stat --json | jq .total_bytes
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    stat = store.stat()
    if as_json:
        echo_json({**_location(store), **stat.to_dict()})
    else:
        echo_table(_rows(store, stat))


@cache.command(short_help="Check entries for damage.")
@workdir_option
@click.option("--read-data", is_flag=True, help="Read all data, and compare it with the checksums.")
@click.option("--repair", is_flag=True, help="Quarantine damaged entries; they are created again when they are needed.")
@json_option
@click.pass_context
def verify(ctx: click.Context, *, workdir: str | None, read_data: bool, repair: bool, as_json: bool) -> None:
    """Check entries for damage.

    Without --read-data, only a few kilobytes of each entry are read, to check that it is complete and matches its name.
    With --repair, damaged entries are moved to the folder 'quarantine' in the cache, which 'ndframes cache gc' empties.

    \b
    For example:
      ndframes cache verify
      ndframes cache verify --read-data --repair
      ndframes cache verify --read-data --json | jq '.bad[].path'

    Exit status: 0 success, 1 some entries are damaged (listed on stderr), 2 invalid arguments, 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    # No bar in a log file, where its control characters would be noise.
    with _ProgressBar() as bar:
        report = store.verify(read_data, repair, progress=bar.show if is_terminal(sys.stderr) else None)
    if as_json:
        echo_json({**_location(store), **report.to_dict()})
    else:
        # The other lines of the report list damaged files, which go to stderr.
        click.echo(str(report).split("\n", 1)[0])
        click.echo(f"cache: {show_path(store.root)}")
        for item in report.bad:
            click.echo(f"bad: {show_path(item.problem)}", err=True)
    if not report.ok:
        ctx.exit(1)


@cache.command(short_help="Remove unused files, and limit the size.")
@workdir_option
@click.option(
    "--max-bytes",
    callback=_parse_size,
    metavar="SIZE",
    help="Also remove the least recently used entries until the cache is at most this large: 500MB, 2.5GB, 1TiB.",
)
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="In an object store: files of writers that are younger stay, since they may be at work.  [default: 3600]",
)
@_dry_run_option
@json_option
@click.pass_context
def gc(
    ctx: click.Context,
    *,
    workdir: str | None,
    max_bytes: int | None,
    older_than: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove unfinished files of dead processes, damaged entries, and superseded entries.

    Entries that a running process has leased are kept, and so are all files that do not belong to the cache. A process that
    is reading a removed entry can go on reading it.

    \b
    For example:
      ndframes cache gc
      ndframes cache gc --max-bytes 100GB --dry-run
      ndframes cache gc --max-bytes 100GB --json | jq .freed_bytes

    Exit status: 0 success, 1 some files could not be removed, 2 invalid arguments or a folder that is not a cache.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    if older_than is not None and not store.is_distant:
        raise click.UsageError(
            f"--older-than is for a workdir in an object store, and {show_path(store.workdir)} is a folder, in which locks tell who is at work"
        )
    options: dict[str, Any] = {} if older_than is None else {"older_than": older_than}
    _report_removed(ctx, store, store.gc(max_bytes, dry_run, **options), as_json=as_json)


@cache.command(short_help="Remove every entry, or those of one source.")
@workdir_option
@click.option(
    "--source",
    metavar="PATH",
    help="Remove only the entries of this file, or of the files in this folder, which need not exist any more.",
)
@_dry_run_option
@json_option
@click.pass_context
def clear(ctx: click.Context, *, workdir: str | None, source: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove every entry that no running process has leased, and everything that 'ndframes cache gc' removes.

    With --source, only entries of that source are removed; 'ndframes cache ls' lists the sources. Sources, and files that do not belong to the cache, are never touched.

    \b
    For example:
      ndframes cache clear --dry-run
      ndframes cache clear --source scans/old.tif
      ndframes cache clear --workdir /data/work

    Exit status: 0 success, 1 some files could not be removed, 2 invalid arguments or a folder that is not a cache.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    _report_removed(ctx, store, store.clear(dry_run, source=source), as_json=as_json)


def _open_store(workdir: str | None) -> Cache:
    from ..cache.cache import Cache
    from ..cache.layout import default_workdir

    return Cache(default_workdir() if workdir is None else workdir)


def _report_removed(ctx: click.Context, store: Cache, report: GcReport, *, as_json: bool) -> None:
    if as_json:
        echo_json({**_location(store), **report.to_dict()})
    else:
        if report.is_dry_run:
            for path in report.paths:
                click.echo(show_path(path))
        click.echo(str(report).split("\n", 1)[0])
        click.echo(f"cache: {show_path(store.root)}")
        for item in report.failed:
            click.echo(f"failed: {show_path(item.path)}: {item.problem}", err=True)
    if not report.ok:
        ctx.exit(1)


def _rows(store: Cache, stat: CacheStat) -> dict[str, str]:
    from ..text import count_noun, format_bytes

    def amount(count: int, total_bytes: int, noun: str = "entry") -> str:
        return f"{count_noun(count, noun)}, {format_bytes(total_bytes)}" if count else "none"

    forms = [
        f"{form.suffix[1:]} {form.backend_id}: {amount(form.entries, form.total_bytes)}" for form in stat.by_backend
    ]
    rows = {
        "cache": show_path(store.root),
        "entries": "\n".join([amount(stat.entries, stat.total_bytes), *forms]),
        "superseded": amount(stat.superseded, stat.superseded_bytes),
        "being written": amount(stat.temporary, stat.temporary_bytes, "file"),
        "quarantine": amount(stat.quarantined, stat.quarantined_bytes, "file"),
        "leased": count_noun(stat.leased, "entry") if stat.leased else "none",
        "disk": "an object store" if stat.free_bytes is None else f"{format_bytes(stat.free_bytes)} free",
    }
    if stat.oldest_used is not None and stat.newest_used is not None:
        rows["last used"] = f"{_format_time(stat.oldest_used)} to {_format_time(stat.newest_used)}"
    return rows


def _location(store: Cache) -> dict[str, str]:
    return {"workdir": str(store.workdir), "root": str(store.root)}


def _format_time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # not a time of any calendar
        return f"{seconds:.0f} s"


class _ProgressBar:
    """A progress bar that counts bytes; it appears with the first call of :meth:`show`."""

    def __init__(self) -> None:
        self._iter: Any = None
        self._done = 0

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._iter is not None:
            self._iter.end()

    def show(self, done_bytes: int, total_bytes: int) -> None:
        """Update the bar; not thread-safe."""
        if self._iter is None:
            import ubelt

            self._iter = ubelt.ProgIter(total=total_bytes, desc="verify (bytes)", stream=sys.stderr, clearline=True)
            self._iter.begin()
        self._iter.step(done_bytes - self._done)
        self._done = done_bytes
