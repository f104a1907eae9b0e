"""``ndframes stream``: run and check pipelines that a YAML file describes."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from ..errors import NdframesError, StreamConfigurationError
from .common import (
    CommandError,
    UserPath,
    describe_error,
    echo_json,
    echo_table,
    json_option,
    show_path,
    to_typed,
)
from .stream_report import Progress, describe_run, format_columns

if TYPE_CHECKING:
    from ..stream.configuration import AlgorithmEntry, Configuration
    from ..stream.pipeline import Pipeline
    from ..stream.source import Source

__all__ = ["stream"]
_STEP_SECONDS = 0.25
_STOP_SECONDS = 10.0
_PROBED_FRAMES = 10


def _parse_duration(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value}; write seconds above 0", ctx, param)
    return value


_config = click.argument("config", type=UserPath(), metavar="CONFIG")
_allow = click.option(
    "--allow",
    multiple=True,
    metavar="PACKAGE",
    help="Algorithms may be imported from this package or module and below it, which runs its code. May be given several times.",
)
_search = click.option(
    "--path",
    "search",
    multiple=True,
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="Also look for modules in this folder, after the installed ones. May be given several times.",
)


@click.group(short_help="Run algorithms over streams, as a file describes them.")
def stream() -> None:
    """Run algorithms over cameras, network streams and files, as a YAML file describes them, or check such a file.

    \b
    For example:
      ndframes stream check cams.yaml --open
      ndframes stream run cams.yaml --allow mypackage --duration 60
    """  # noqa: D301 - a backspace keeps click from wrapping the examples


@stream.command(short_help="Run a pipeline.")
@_config
@_allow
@_search
@click.option("--mode", type=click.Choice(("offline", "realtime")), help="Instead of the mode of the file.")
@click.option(
    "--duration",
    type=float,
    callback=_parse_duration,
    metavar="SECONDS",
    help="Stop after so many seconds.  [default: when all sources have ended]",
)
@click.option(
    "--results",
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="Write the results to this .jsonl file, line by line, or .parquet file, instead of that of the configuration.",
)
@click.option(
    "--view",
    is_flag=True,
    help="Serve a page to watch the run, print its address, and go on serving it after the run until Ctrl-C.",
)
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Of the page.  [default: a free one]")
@click.option("--quiet", is_flag=True, help="Print no progress.")
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    *,
    config: str,
    allow: tuple[str, ...],
    search: tuple[str, ...],
    mode: Any,
    duration: float | None,
    results: str | None,
    view: bool,
    port: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a pipeline until its sources end, and print what became of each frame and window.

    CONFIG is a YAML file. Paths in it are relative to its folder. Algorithms are imported only from packages that --allow names.
    A line on stderr shows the progress. Ctrl-C stops the run; what was done is printed, and written results are kept.

    \b
    For example:
      ndframes stream run cams.yaml --allow mypackage
      ndframes stream run cams.yaml --allow mypackage --path . --mode offline
      ndframes stream run cams.yaml --allow mypackage --results out.jsonl --duration 3600
      ndframes stream run cams.yaml --allow mypackage --json | jq .algorithms
      ndframes stream run cams.yaml --allow mypackage --view

    Exit status: 0 success, 1 some windows failed and were skipped, 2 the configuration is not allowed, or a source or algorithm
    failed, 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    if port is not None and not view:
        raise click.UsageError("--port is that of the page: give --view, too")
    _search_in(search)
    with _listing_problems(ctx):
        configuration = _override(_read(config), mode, results)
        pipeline = configuration.make_pipeline(allow)
    if view:
        click.echo(f"page  {pipeline.serve(port or 0, start=False)}", err=True)
    progress = Progress(duration, is_quiet=quiet)
    outcome, error = _run(pipeline, progress, duration, keep_page=view)
    _print_run(pipeline, configuration, progress.seconds, error, as_json=as_json)
    if view:
        _keep_page(pipeline, is_interrupted=outcome == "interrupted")
    if outcome == "interrupted":
        click.echo("ndframes: interrupted; the results so far are kept", err=True)
        ctx.exit(130)
    if error is not None:
        raise CommandError(describe_error(error)) from error
    failed = sum(each["dropped"]["error"] for each in pipeline.stats["algorithms"].values())
    if failed:
        click.echo(f"ndframes: {failed:,} windows failed and were skipped; their results tell why", err=True)
        ctx.exit(1)


def _keep_page(pipeline: Pipeline, *, is_interrupted: bool) -> None:
    """Serve the page of a run that has ended until Ctrl-C."""
    try:
        if not is_interrupted:
            click.echo("the run has ended; Ctrl-C ends the page", err=True)
            while True:
                time.sleep(_STEP_SECONDS)
    except KeyboardInterrupt:
        click.echo(err=True)
    finally:
        pipeline.stop(_STOP_SECONDS)


def _run(
    pipeline: Pipeline, progress: Progress, duration: float | None, *, keep_page: bool
) -> tuple[str, BaseException | None]:
    """Run until the end; returns how it ended, and its error."""
    try:
        try:
            pipeline.start()
            while not pipeline.wait(_STEP_SECONDS):
                progress.show(pipeline.stats, pipeline.state)
                if duration is not None and progress.seconds >= duration:
                    _stop(pipeline, keep_page=keep_page)
                    return "stopped", _error_of(pipeline)
        finally:
            progress.end()
    except KeyboardInterrupt:
        _stop(pipeline)
        return "interrupted", _error_of(pipeline)
    except Exception as error:  # noqa: BLE001 - of a source, an algorithm or a sink; printed by the caller
        _stop(pipeline, keep_page=keep_page)
        return "failed", error
    return "ended", None


def _stop(pipeline: Pipeline, *, keep_page: bool = False) -> None:
    if not pipeline.stop(_STOP_SECONDS, keep_page=keep_page):
        click.echo(f"ndframes: something did not end within {_STOP_SECONDS:g} s, and was left behind", err=True)


def _error_of(pipeline: Pipeline) -> BaseException | None:
    """The error of a pipeline that has been stopped, such as that of a sink that is closed."""
    try:
        pipeline.wait(0)
    except Exception as error:  # noqa: BLE001 - printed by the caller
        return error
    return None


def _print_run(
    pipeline: Pipeline, configuration: Configuration, seconds: float, error: BaseException | None, *, as_json: bool
) -> None:
    stats = pipeline.stats
    path = configuration.results and configuration.results.path
    if as_json:
        why = None if error is None else describe_error(error)
        echo_json({"state": pipeline.state, "error": why, "seconds": round(seconds, 3), "results": path, **stats})
        return
    what = f"{pipeline.state} after {seconds:,.1f} s, {pipeline.mode}"
    echo_table({"pipeline": what, **describe_run(stats, seconds)})


@stream.command(short_help="Check a configuration.")
@_config
@_allow
@_search
@click.option("--import", "imports", is_flag=True, help="Also import the algorithms, which runs their modules.")
@click.option("--open", "opens", is_flag=True, help="Also open each source once, and print what it is.")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    *,
    config: str,
    allow: tuple[str, ...],
    search: tuple[str, ...],
    imports: bool,
    opens: bool,
    as_json: bool,
) -> None:
    """Check a configuration, and print what it describes. All problems are listed, each with its line and key.

    Nothing is opened or imported, unless --open or --import says so. With --allow, it is checked that all algorithms are below the
    packages that it names.

    \b
    For example:
      ndframes stream check cams.yaml
      ndframes stream check cams.yaml --allow mypackage --import --open
      ndframes stream check cams.yaml --json | jq '.problems[].key'

    Exit status: 0 success, 2 the configuration is not allowed, or a source does not open.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    _search_in(search)
    with _listing_problems(ctx, as_json=as_json):
        configuration = _read(config)
        if imports:
            configuration.load_algorithms(allow)
        elif allow:
            configuration.check_imports(allow)
    found = [_open(source) for source in configuration.sources] if opens else None
    if as_json:
        echo_json(_to_plain(configuration, found))
    else:
        echo_table(_describe_configuration(config, configuration, found, is_checked=bool(allow)))
    if any("error" in each for each in found or ()):
        ctx.exit(2)


def _search_in(folders: Sequence[str]) -> None:
    """Look for modules in folders, too."""
    # Last, so that nothing in them replaces a module of Python or of another package.
    sys.path.extend(os.path.abspath(folder) for folder in folders)


def _read(config: str) -> Configuration:
    from ..stream.configuration import read_configuration

    return read_configuration(config)


def _override(configuration: Configuration, mode: Any, results: str | None) -> Configuration:
    from ..stream.configuration import ResultsEntry

    if mode is not None:
        configuration = replace(configuration, mode=mode)
    if results is not None:
        configuration = replace(configuration, results=ResultsEntry(path=os.path.abspath(results)))
    return configuration


@contextmanager
def _listing_problems(ctx: click.Context, *, as_json: bool = False) -> Iterator[None]:
    """Print each problem of a configuration in a line, and exit."""
    try:
        yield
    except StreamConfigurationError as error:
        if as_json:
            echo_json({"ok": False, "problems": [asdict(problem) for problem in error.problems]})
        for line in str(error).split("\n"):
            click.echo(f"ndframes: error: {show_path(to_typed(line))}", err=True)
        ctx.exit(2)


def _open(source: Source) -> dict[str, Any]:
    """What a source is: the size and rate of its first frames, and how many frames it has."""
    from ..stream.opening import open_source
    from ..stream.values import Frame

    # One attempt: a check ends.
    reading = open_source(replace(source, reconnect=None))
    frames: list[Frame] = []
    try:
        for item in reading:
            if isinstance(item, Frame):
                frames.append(item)
            if len(frames) == _PROBED_FRAMES:
                break
    except NdframesError as error:
        return {"error": describe_error(error)}
    finally:
        reading.stop()
    if not frames:
        return {"error": f"{source.name}: it ended before its first frame"}
    span = frames[-1].time - frames[0].time
    return {
        "shape": list(frames[0].image.shape),
        "fps": round((len(frames) - 1) / span, 3) if span > 0 else None,
        "frames": reading.counts.expected,
        "live": source.is_live,
    }


def _to_plain(configuration: Configuration, found: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
    opened = list(found) if found else [{} for _ in configuration.sources]
    return {
        "ok": not any("error" in each for each in opened),
        "problems": [],
        "mode": configuration.mode,
        "sources": [
            {"name": source.name, "uri": _show_uri(source.uri), **each}
            for source, each in zip(configuration.sources, opened, strict=True)
        ],
        "algorithms": [
            {"name": each.name, "import": str(each.path), "source": each.source, "worker": each.worker}
            for each in configuration.algorithms
        ],
        "record": [each.path for each in configuration.record],
        "log": configuration.log,
        "results": configuration.results and configuration.results.path,
    }


def _describe_configuration(
    config: str, configuration: Configuration, found: Sequence[dict[str, Any]] | None, *, is_checked: bool
) -> dict[str, str]:
    opened = list(found) if found else [{} for _ in configuration.sources]
    rows = {"file": f"{show_path(config)}: no problems", "mode": configuration.mode}
    rows["sources"] = "\n".join(
        f"{source.name}: {_show_uri(source.uri)}{_describe_opened(each)}"
        for source, each in zip(configuration.sources, opened, strict=True)
    )
    if any("error" in each for each in found or ()):
        rows["file"] = f"{show_path(config)}: a source does not open"
    if configuration.algorithms:
        rows["algorithms"] = format_columns([_describe_algorithm(each) for each in configuration.algorithms])
        if not is_checked:
            rows["algorithms"] += "\nnot checked whether they may be imported: give --allow"
    for entry in configuration.record:
        rows["record"] = rows.get("record", "") + ("\n" if "record" in rows else "") + to_typed(show_path(entry.path))
    if configuration.log is not None:
        rows["log"] = to_typed(show_path(configuration.log))
    if configuration.results is not None:
        rows["results"] = to_typed(show_path(configuration.results.path))
    return rows


def _describe_opened(found: dict[str, Any]) -> str:
    if not found:
        return ""
    if "error" in found:
        return f": error: {found['error']}"
    rate = "an unknown rate" if found["fps"] is None else f"{found['fps']:g} frames a second"
    count = "live" if found["live"] else "no known end" if found["frames"] is None else f"{found['frames']:,} frames"
    return f": {' x '.join(map(str, found['shape']))} px, {rate}, {count}"


def _describe_algorithm(entry: AlgorithmEntry) -> tuple[str, str, str]:
    sources = "all sources" if entry.source is None else ", ".join(entry.source)
    return f"{entry.name}: {entry.path}", sources, entry.worker


def _show_uri(uri: Any) -> str:
    from ..video.addresses import hide_secrets

    return to_typed(show_path(hide_secrets(str(uri))))
