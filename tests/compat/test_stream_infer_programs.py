"""Programs for Stream Infer's versions, run as they are but for the name of the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kit.numbered import write_clip

TESTS = Path(__file__).parents[1]
COUNT = 50
COMMON = """
import json
import sys

from stream_infer import Inference, Player
from stream_infer.algo import BaseAlgo
from stream_infer.dispatcher import DevelopDispatcher, Dispatcher, DispatcherManager
from stream_infer.log import logger
from stream_infer.producer import OpenCVProducer, PyAVProducer
from stream_infer.util import position2time, trans_position2time

from kit.numbered import read_number

FPS = 25


class HeadAlgo(BaseAlgo):
    def init(self):
        self.model = read_number

    def run(self, frames):
        logger.debug(f"{self.name} gets {len(frames)} frames")
        return [self.model(frame) for frame in frames]
"""

#: The loop by hand of the first versions, whose users looked results up by whole seconds.
FIRST = """
class SelfDispatcher(Dispatcher):
    def get_result(self, name):
        if self.collect_results.get(name):
            return self.collect_results[name]
        return None

    def get_last_result(self, name):
        results = self.get_result(name)
        if results is not None and len(results.keys()) > 0:
            return results[(str(max([int(key) for key in results.keys()])))]
        return None


if __name__ == "__main__":
    dispatcher = SelfDispatcher(150) if OFFLINE else DispatcherManager(SelfDispatcher).create(150)
    inference = Inference(dispatcher)
    inference.load_algo(HeadAlgo(), frame_count=1, frame_step=FPS, interval=1)
    player = Player(dispatcher, OpenCVProducer(160, 120), path="clip.mp4")
    found = []
    if OFFLINE:
        for frame, current_frame in player.play(FPS):
            inference.auto_run_specific(player.play_fps, current_frame)
            data = dispatcher.get_last_result(HeadAlgo.__name__)
            if data is None:
                continue
            found.append(data[0])
    else:
        player.play_async(FPS)
        inference.run_async()
        while player.is_active():
            pass
        inference.stop()
        player.stop()
        found = [data[0] for data in dispatcher.get_result("HeadAlgo").values()]
    print(json.dumps(found))
"""

#: collect_result, max_size, offline= and set_custom_process.
EARLY = """
class RequestDispatcher(DevelopDispatcher):
    def __init__(self, max_size: int = 120):
        super().__init__(max_size)
        self.requests = []

    def collect_result(self, inference_result):
        super().collect_result(inference_result)
        self.requests.append({
            "time": inference_result[0], "name": inference_result[1], "data": inference_result[2]
        })


def custom_process(inference: Inference, *args, **kwargs):
    current_time, data = inference.dispatcher.get_last_result(HeadAlgo.__name__, clear=True)
    if data is not None:
        logger.debug(f"{trans_position2time(current_time)}: {data}")


if __name__ == "__main__":
    dispatcher = RequestDispatcher() if OFFLINE else DispatcherManager(RequestDispatcher).create(max_size=150)
    inference = Inference(dispatcher)
    inference.load_algo(HeadAlgo(), frame_count=1, frame_step=FPS, interval=1)
    inference.load_algo(HeadAlgo("other"), 2, 6, 0.5)
    inference.set_custom_process(custom_process)
    player = Player(dispatcher, PyAVProducer(160, 120), "clip.mp4")
    inference.start(player, fps=FPS, position=0, offline=OFFLINE)
    print(json.dumps([each["data"][-1] for each in dispatcher.requests if each["name"] == "HeadAlgo"]))
"""

#: collect, create(mode=, buffer=), mode= and recording_path.
LATER = """
class HostDispatcher(Dispatcher):
    def __init__(self, buffer: int, host: str = "localhost", port: int = 6379, db: int = 0):
        super().__init__(buffer)
        self.place, self.sent = (host, port, db), {}

    def collect(self, position: int, algo_name: str, result):
        self.sent.setdefault(f"results:{algo_name}", []).append(result)


if __name__ == "__main__":
    dispatcher = HostDispatcher.create(mode=MODE, buffer=15, host="localhost", port=6379, db=1)
    inference = Inference(dispatcher)
    inference.load_algo(HeadAlgo("head"), frame_count=1, frame_step=FPS, interval=1)
    player = Player(dispatcher, OpenCVProducer(160, 120), "clip.mp4", False)
    inference.start(player, fps=FPS, position=0, mode=MODE, recording_path="./processed.mp4")
    assert dispatcher.place == ("localhost", 6379, 1)
    print(json.dumps([data[0] for data in dispatcher.sent["results:head"]]))
"""

#: The player belongs to Inference, and the mode to the dispatcher.
NEWEST = """
if __name__ == "__main__":
    dispatcher = DevelopDispatcher.create(mode=MODE, buffer=30, logging_level="INFO")
    player = Player(dispatcher, OpenCVProducer(), source="clip.mp4", show_progress=False)
    inference = Inference(dispatcher, player)

    if OFFLINE:
        @inference.process
        def offline_process(inference: Inference, *args, **kwargs):
            frame = kwargs["frame"]
            _, data = inference.dispatcher.get_last_result("HeadAlgo", clear=False)
            if data is not None:
                frame[:10] = 0

    inference.load_algo(HeadAlgo(), frame_count=1, frame_step=0, interval=1.0)
    if OFFLINE:
        inference.start(fps=FPS, position=0, recording_path="./processed.mp4")
    else:
        inference.start()
    print(json.dumps([data[0] for data in dispatcher.get_result("HeadAlgo").values()]))
"""


@pytest.mark.parametrize("is_offline", [True, False], ids=["offline", "realtime"])
@pytest.mark.parametrize("program", [FIRST, EARLY, LATER, NEWEST], ids=["first", "early", "later", "newest"])
def test_a_program_for_stream_infer(tmp_path, program, is_offline):
    write_clip(tmp_path / "clip.mp4", COUNT)
    mode = "offline" if is_offline else "realtime"
    text = f"{COMMON}\nOFFLINE, MODE = {is_offline}, {mode!r}\n{program}".replace(
        "stream_infer", "ndframes.compat.stream_infer"
    )
    (tmp_path / "program.py").write_text(text)
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    if not is_offline:
        # Which frame is the newest depends on how busy the machine is.
        assert found
        assert set(found) <= set(range(COUNT))
        assert found == sorted(found)
    elif program == FIRST:
        assert found == [24] * 25 + [49]
    else:
        assert found == [24, 49]
    if is_offline and program in (LATER, NEWEST):
        assert (tmp_path / "processed.mp4").exists()
