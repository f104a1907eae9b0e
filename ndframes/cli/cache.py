"""``ndframes cache``: look at the store of entries."""

from __future__ import annotations

import time

import click

from .common import echo_json, json_option, show_path, workdir_option

__all__ = ["cache"]


@click.group()
def cache() -> None:
    """Look at the cache.

    \b
    In use:
      ndframes cache ls
      ndframes cache ls --workdir /data/work --json
    """  # noqa: D301 - a backspace keeps click from wrapping the examples


@cache.command("ls", short_help="List the entries.")
@workdir_option
@json_option
def list_entries(*, workdir: str | None, as_json: bool) -> None:
    """List the entries of the cache: size, time of writing, path; the newest first.

    Entries are ordinary TIFF and npy files that any other program can read. They are read-only and may be deleted at
    any time; what is missing is made again when it is needed.

    \b
    In use:
      ndframes cache ls
      ndframes cache ls --json | jq '[.entries[].size_bytes] | add'
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..cache.store import Cache
    from ..display import format_bytes
    from ..frames import default_workdir

    store = Cache(default_workdir() if workdir is None else workdir)
    entries = sorted(store.ls(), key=lambda entry: (-entry.mtime, str(entry.path)))
    total = sum(entry.size_bytes for entry in entries)
    if as_json:
        echo_json(
            {
                "workdir": str(store.workdir),
                "root": str(store.root),
                "total_bytes": total,
                "entries": [entry.to_dict() for entry in entries],
            }
        )
        return
    for entry in entries:
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.mtime))
        click.echo(f"{format_bytes(entry.size_bytes):>9}  {written}  {show_path(entry.path.relative_to(store.root))}")
    count = f"{len(entries):,} {'entry' if len(entries) == 1 else 'entries'}"
    click.echo(f"{count}, {format_bytes(total)} in {show_path(store.root)}")
