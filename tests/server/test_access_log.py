"""The access log: a line of JSON for each request, and nothing of the token in any log or text."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from urllib.parse import quote

import numpy as np
import pytest
from kit.waiting import wait_until

import ndframes as nf
from ndframes.server.access_log import ACCESS_LOGGER, AccessLog, writing_access_log
from ndframes.server.exchanges import Exchange

TOKEN = "a-token-of-these-tests"


@pytest.fixture
def frames(tmp_path, gradient):
    np.save(tmp_path / "a.npy", gradient)
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(100))
    sources = {"a": tmp_path / "a.npy", "broken": tmp_path / "broken.tif"}
    return nf.SimpleFrames(sources, workdir=tmp_path / "work")


@pytest.fixture
def every_log(caplog):
    """All that is logged, by any logger at any level; uvicorn decides by its level what it logs."""
    caplog.set_level(1)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio", "ndframes"):
        caplog.set_level(1, logger=name)
    return caplog


def lines_of(caplog, count: int) -> list[dict]:
    def records():
        return [record for record in caplog.records if record.name == ACCESS_LOGGER]

    # A line is written when the answer has been sent, so the client may be the first to know.
    wait_until(lambda: len(records()) >= count)
    lines = [json.loads(record.getMessage()) for record in records()]
    assert len(lines) == count
    return lines


def test_lines_say_what_was_asked_and_answered(frames, serve_frames, caplog):
    caplog.set_level(logging.INFO, logger=ACCESS_LOGGER)
    site, _ = serve_frames(frames, token=TOKEN)
    before = datetime.now(timezone.utc)
    whole = site.ask("/frames/a/region?y=0:9&channels=")
    head = site.ask("/frames/a/region", "HEAD")
    wrong = site.ask("/frames/a%20b/region?y=0%3A9&url=http://elsewhere")
    by_path = site.ask(f"/k/{TOKEN}/frames/a?channels=c0", has_token=False)
    refused = site.ask("/nothing", has_token=False)
    lines = lines_of(caplog, 5)
    shown = [{name: value for name, value in line.items() if name not in ("time", "seconds")} for line in lines]
    common = {"client": "127.0.0.1", "method": "GET", "query": "", "endpoint": "/frames/{name}/region"}
    assert shown == [
        {**common, "path": "/frames/a/region", "query": "y=0:9&channels=", "status": 200, "bytes": len(whole.body)},
        {**common, "method": "HEAD", "path": "/frames/a/region", "status": head.status, "bytes": 0},
        {**common, "path": "/frames/a b/region", "query": "y=0:9&...", "status": 404, "bytes": len(wrong.body)},
        {
            **common,
            "path": "/k/-/frames/a",
            "query": "channels=c0",
            "endpoint": "/frames/{name}",
            "status": by_path.status,
            "bytes": len(by_path.body),
        },
        {**common, "path": "/nothing", "endpoint": "none", "status": 401, "bytes": len(refused.body)},
    ]
    for line in lines:
        assert before.timestamp() - 1 < datetime.fromisoformat(line["time"]).timestamp() < before.timestamp() + 300
        assert 0 <= line["seconds"] < 300


def test_nothing_is_logged_unless_it_is_wanted(frames, serve_frames, caplog):
    caplog.set_level(logging.WARNING, logger=ACCESS_LOGGER)
    site, _ = serve_frames(frames)
    assert site.ask("/health").status == 200
    assert not [record for record in caplog.records if record.name == ACCESS_LOGGER]


def test_no_log_holds_the_token(frames, serve_frames, every_log, capfd):
    site, remote = serve_frames(frames, token=TOKEN)
    encoded = "".join(f"%{ord(letter):02x}" for letter in TOKEN)
    twice = encoded.replace("%", "%25")
    paths = [
        f"/k/{TOKEN}", f"/k/{TOKEN}/", f"/k/{TOKEN}/frames/broken/region", f"/k/{TOKEN}/iiif/a", f"/k/{TOKEN}/k/{TOKEN}/frames",
        f"//k/{TOKEN}/frames", f"/K/{TOKEN}/frames", f"/frames/{TOKEN}/region", f"/frames/a/region?token={TOKEN}",
        f"/frames/a/region?{TOKEN}=1", f"/frames/a/region?{TOKEN}", f"/frames?after={TOKEN}", f"/frames/a?channels={TOKEN}",
        f"/annotations?id={TOKEN}", f"/frames/a/{TOKEN}/tiles/0", f"/frames/a/{TOKEN}/tiles/{TOKEN}?rows={TOKEN}",
        f"/iiif/a/{TOKEN}/max/0/default.png", f"/health?token={TOKEN}&access_token={TOKEN}", f"/%6b/{encoded}/frames",
        f"/frames/{encoded}/region", f"/frames/{twice}/region?y={twice}", f"/frames/{'x' * 280}{TOKEN}/region", f"/#token={TOKEN}",
    ]  # fmt: skip
    for path in paths:
        for has_token in (True, False):
            site.ask(path, has_token=has_token)
    body = json.dumps([{"id": TOKEN}, {"id": "a", "region": TOKEN}]).encode()
    assert site.ask("/regions", "POST", body=body).status in (400, 404)
    site.ask("/regions", "POST", body=TOKEN.encode())
    for headers in (
        {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": [f"Bearer {TOKEN}"] * 2}, {"Host": TOKEN},
        {"Cookie": f"token={TOKEN}"}, {"Origin": f"http://{TOKEN}"}, {"Referer": f"http://{site.place[0]}/k/{TOKEN}/"},
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": TOKEN, "Sec-WebSocket-Version": "13"},
        {"If-None-Match": TOKEN}, {"Expect": TOKEN},
    ):  # fmt: skip
        site.ask("/frames/broken/region", **headers)
    with site.connect() as client:
        client.sendall(f"{TOKEN} / HTTP/1.1\r\nHost: {TOKEN}\r\n\r\n".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 400")
    with pytest.raises(nf.NdframesError):
        remote.load_region("broken")
    # The remote frames have listed the images, and read a region.
    lines = lines_of(every_log, 2 * len(paths) + 2 + 10 + 2)
    printed = capfd.readouterr()
    texts = [printed.out, printed.err, *(str(record.__dict__) + record.getMessage() for record in every_log.records)]
    assert any("UnreadableImageError" in text or "a request failed" in text for text in texts)
    for text in texts:
        assert TOKEN not in text
        assert encoded.lower() not in text.lower()
        assert twice.lower() not in text.lower()
    assert sum(line["path"].startswith("/k/-") for line in lines) >= 10


def test_paths_forge_no_lines(frames, serve_frames, caplog):
    caplog.set_level(logging.INFO, logger=ACCESS_LOGGER)
    site, _ = serve_frames(frames)
    controls = [chr(number) for number in (*range(32), *range(127, 160))] + ["\u2028", "\u2029", "\u202e", "\ufeff"]
    forged = [f'x{control}{{"status": 200}}{control}' for control in [*controls, "\r\n", '"', "\\", "\x1b[2J"]]
    for text in forged:
        site.ask(f"/frames/{quote(text, safe='')}/region?y={quote(text, safe='')}&{quote(text, safe='')}=1")
    lines = lines_of(caplog, len(forged))
    assert [line["path"] for line in lines] == [f"/frames/{text}/region" for text in forged]
    assert [line["query"] for line in lines] == [f"y={text}&..." for text in forged]
    for record in caplog.records:
        if record.name == ACCESS_LOGGER:
            assert all(32 <= ord(letter) < 127 for letter in record.getMessage())


def test_bytes_that_are_no_text_and_long_paths(frames, serve_frames, caplog):
    caplog.set_level(logging.INFO, logger=ACCESS_LOGGER)
    site, _ = serve_frames(frames)
    site.ask("/frames/%ff%fe/region?y=%ff&%ff=%fe")
    site.ask(f"/{quote(chr(0x1F600) * 800)}")
    site.ask(f"/{'y' * 9000}?y={'z' * 5000}")
    lines = lines_of(caplog, 3)
    assert lines[2]["path"] == f"/{'y' * 299}..."
    assert all(len(record.getMessage()) < 8192 for record in caplog.records)


def test_a_token_that_is_cut_is_not_shown_in_part():
    exchange = Exchange("GET", "/" + "x" * 290 + TOKEN, f"y={'x' * 290}{TOKEN}".encode(), None, 0.0)
    assert TOKEN[:6] not in AccessLog(TOKEN).format(exchange)


def test_a_full_disk_is_told_once_and_ends_nothing(frames, serve_frames, caplog):
    before = logging.getLogger(ACCESS_LOGGER).handlers[:]
    with writing_access_log("/dev/full"):
        site, _ = serve_frames(frames)
        assert {site.ask("/health").status for _ in range(50)} == {200}
    assert logging.getLogger(ACCESS_LOGGER).handlers == before
    told = [record.getMessage() for record in caplog.records if record.name == "ndframes.server"]
    assert told == ["the access log cannot be written: [Errno 28] No space left on device"]


def test_a_file_that_cannot_be_opened_again(tmp_path, frames, serve_frames, caplog):
    folder = tmp_path / "logs"
    folder.mkdir()
    site, _ = serve_frames(frames)
    with writing_access_log(str(folder / "log")):
        assert site.ask("/health").status == 200
        wait_until((folder / "log").read_text)
        (folder / "log").unlink()
        folder.rmdir()
        assert {site.ask("/health").status for _ in range(3)} == {200}
        wait_until(lambda: caplog.records)
        folder.mkdir()
        assert site.ask("/stats").status == 200
        wait_until(lambda: (folder / "log").exists() and "/stats" in (folder / "log").read_text())
    (told,) = [record.getMessage() for record in caplog.records if record.name == "ndframes.server"]
    assert "No such file or directory" in told
