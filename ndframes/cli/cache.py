"""``ndframes cache``: look at the store of entries, check it, and keep it small."""

from __future__ import annotations

import re
import sys
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

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
_SIZE = re.compile(r"(?P<number>[0-9]{1,18}(?:\.[0-9]{1,18})?) ?(?:(?P<unit>[kmgtp])(?P<binary>i)?)?b?", re.IGNORECASE)
_POWERS = ("", "k", "m", "g", "t", "p")


def _parse_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes, as people write them, as a number."""
    if value is None:
        return None
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is no size; write 500MB, 2.5GB, 1TiB or a number of bytes", ctx, param)
    factor = (1024 if match["binary"] else 1000) ** _POWERS.index((match["unit"] or "").lower())
    return int(Decimal(match["number"]) * factor)


_dry_run_option = click.option("--dry-run", is_flag=True, help="Remove nothing; list what would be removed.")


@click.group()
def cache() -> None:
    """Look at the cache, check it, and keep it small.

    Entries are ordinary TIFF, npy and AVI files that other programs can read. They are read-only and may be removed at
    any time; what is missing is made again when it is needed.

    \b
    In use:
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
    """List the entries of the cache: size, time of writing, time of last use, path; the newest first.

    The system keeps the time of last use, as a rule to the day.

    \b
    In use:
      ndframes cache ls
      ndframes cache ls --json | jq '[.entries[].size_bytes] | add'
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..text import count_noun, format_bytes

    store = _open_store(workdir)
    entries = sorted(store.ls(), key=lambda entry: (-entry.mtime, str(entry.path)))
    total = sum(entry.size_bytes for entry in entries)
    if as_json:
        listed = [{**entry.to_dict(), "used": entry.used} for entry in entries]
        echo_json({**_where(store), "total_bytes": total, "entries": listed})
        return
    for entry in entries:
        times = f"{_minute(entry.mtime)}  used {_minute(entry.used)}"
        click.echo(f"{format_bytes(entry.size_bytes):>9}  {times}  {show_path(entry.path.relative_to(store.root))}")
    click.echo(f"{count_noun(len(entries), 'entry')}, {format_bytes(total)} in {show_path(store.root)}")


@cache.command("stat", short_help="Say how much there is of what.")
@workdir_option
@json_option
def show_stat(*, workdir: str | None, as_json: bool) -> None:
    """Say how much the cache holds, and how much of it is of no use any more.

    Superseded entries are of a state in which their source is no more. What was left half written or damaged, and what
    is superseded, 'ndframes cache gc' removes.

    \b
    In use:
      ndframes cache stat
      ndframes cache stat --json | jq .total_bytes
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    stat = store.stat()
    if as_json:
        echo_json({**_where(store), **stat.to_dict()})
    else:
        echo_table(_rows(store, stat))


@cache.command(short_help="Check that the entries are what was written.")
@workdir_option
@click.option("--read-data", is_flag=True, help="Read everything, and hold every byte against its checksum.")
@click.option(
    "--repair", is_flag=True, help="Take bad entries out of the way; they are made again when they are needed."
)
@json_option
@click.pass_context
def verify(ctx: click.Context, *, workdir: str | None, read_data: bool, repair: bool, as_json: bool) -> None:
    """Check that the entries are what was written.

    Without --read-data, a few kilobytes of each are read: whether it is whole, and is the entry that its name says.
    With --repair, bad entries go to the folder 'quarantine' in the cache, until the next 'ndframes cache gc'.

    \b
    In use:
      ndframes cache verify
      ndframes cache verify --read-data --repair
      ndframes cache verify --read-data --json | jq '.bad[].path'

    Exit status: 0 all are well, 1 some are bad (they are listed on stderr), 2 a bad request, 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    with _Bar() as bar:
        report = store.verify(read_data, repair, progress=bar.show if sys.stderr.isatty() else None)
    if as_json:
        echo_json({**_where(store), **report.to_dict()})
    else:
        click.echo(str(report).split("\n", 1)[0])
        click.echo(f"cache: {show_path(store.root)}")
        for item in report.bad:
            click.echo(f"bad: {show_path(item.problem)}", err=True)
    if not report.ok:
        ctx.exit(1)


@cache.command(short_help="Remove what is of no use any more.")
@workdir_option
@click.option(
    "--max-bytes",
    callback=_parse_size,
    metavar="SIZE",
    help="Remove entries as well, those used longest ago first, until no more than this is left: 500MB, 2.5GB, 1TiB.",
)
@_dry_run_option
@json_option
@click.pass_context
def gc(ctx: click.Context, *, workdir: str | None, max_bytes: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove what is of no use any more: leftovers of jobs that died, damaged entries, superseded ones.

    What a running job uses is kept, and so is every file that is not the cache's own. Jobs that read an entry while it
    is removed read on.

    \b
    In use:
      ndframes cache gc
      ndframes cache gc --max-bytes 100GB --dry-run
      ndframes cache gc --max-bytes 100GB --json | jq .freed_bytes

    Exit status: 0 all well, 1 some files could not be removed, 2 a bad request or a folder that is no cache.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    _tell_removed(ctx, store, store.gc(max_bytes, dry_run), as_json=as_json)


@cache.command(short_help="Remove every entry.")
@workdir_option
@_dry_run_option
@json_option
@click.pass_context
def clear(ctx: click.Context, *, workdir: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove every entry that no running job uses, and all that is of no use any more.

    Sources are never touched, nor is any file that is not the cache's own.

    \b
    In use:
      ndframes cache clear --dry-run
      ndframes cache clear --workdir /data/work

    Exit status: 0 all well, 1 some files could not be removed, 2 a bad request or a folder that is no cache.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    store = _open_store(workdir)
    _tell_removed(ctx, store, store.clear(dry_run), as_json=as_json)


def _open_store(workdir: str | None) -> Cache:
    from ..cache.cache import Cache
    from ..cache.layout import default_workdir

    return Cache(default_workdir() if workdir is None else workdir)


def _tell_removed(ctx: click.Context, store: Cache, report: GcReport, *, as_json: bool) -> None:
    if as_json:
        echo_json({**_where(store), **report.to_dict()})
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
        "held by jobs": count_noun(stat.leased, "entry") if stat.leased else "none",
        "disk": f"{format_bytes(stat.free_bytes)} free",
    }
    if stat.oldest_used is not None and stat.newest_used is not None:
        rows["last uses"] = f"{_minute(stat.oldest_used)} to {_minute(stat.newest_used)}"
    return rows


def _where(store: Cache) -> dict[str, str]:
    return {"workdir": str(store.workdir), "root": str(store.root)}


def _minute(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a time that no calendar has
        return f"{seconds:.0f} s"


class _Bar:
    """A progress bar over bytes."""

    def __init__(self) -> None:
        self._iter: Any = None
        self._done = 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._iter is not None:
            self._iter.end()

    def show(self, done_bytes: int, total_bytes: int) -> None:
        """So many of so many bytes are done; told by one thread at a time."""
        if self._iter is None:
            import ubelt

            self._iter = ubelt.ProgIter(total=total_bytes, desc="verify, bytes", stream=sys.stderr, clearline=True)
            self._iter.begin()
        self._iter.step(done_bytes - self._done)
        self._done = done_bytes
