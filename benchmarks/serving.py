"""The server under load: requests a second, what it adds to the predictor, memory, right answers.

python benchmarks/serving.py --engine openvino

`birefnet serve` runs as a process of its own and this one is its clients, which share the machine
with it. All figures come from one run, in turns:

- what a request takes beyond the same picture in a loop with the predictor: once with a stand-in
  for the network and the server in a thread of this process, so that nothing but the server's own
  work differs, and once as people run it;
- requests a second of one client and of 16 (`--clients`), each of which sends its next request when
  the last is answered;
- 2,000 requests (`--requests`) of 16 clients with pictures of different sizes: each answer is
  compared with the predictor's, and the server's resident memory is read at each tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import os
import queue
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import birefnet
from birefnet.options import Options
from birefnet.serving import ServerSettings, create_app
from birefnet.serving.running import address, bind, run

DIFFERENT = 20  # pictures
NEAR = 3  # levels of 255 by which an answer may differ: rounding, in another order of summation
PARTS = ("overhead", "throughput", "memory")


def picture(number: int, side: int) -> NDArray[np.uint8]:
    """A disc on noise, each elsewhere and of another size, so that no two mattes are equal."""
    draw = np.random.default_rng(number)
    height, width = side - 2 * number, side + 3 * number
    pixels = draw.normal(70, 12, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    centre = draw.uniform(0.3, 0.7, 2) * (height, width)
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (side * draw.uniform(0.15, 0.3)) ** 2
    pixels[inside] = draw.integers(120, 256, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def as_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()


@contextmanager
def server(model: str, engine: str) -> Iterator[tuple[str, int]]:
    """Address and process of a server that ends with the block."""
    command = [sys.executable, "-m", "birefnet", "serve", "--port", "0", "--no-page"]
    command += ["-m", model, "--engine", engine, "--log-level", "warning"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r"listens at (http://\S+?);", line):
                # What it says later must be read, or it stops when the pipe is full.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield match[1], process.pid
                return
        raise SystemExit(f"the server did not start; it ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait(60)


class Client:
    """One connection that stays open."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)

    def remove(self, data: bytes, query: str = "") -> bytes:
        headers = {"Content-Type": "image/jpeg"}
        self._connection.request("POST", f"/v1/remove{query}", data, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {body[:200]!r}")
        return body


class StandIn:
    """Takes what is bright for the subject, in no time."""

    name, batch_size = "stand-in", 1

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch.mean(axis=1, keepdims=True) * 20


@contextmanager
def server_here(predictor: birefnet.Predictor) -> Iterator[str]:
    """Address of a server in a thread, which ends with the block."""
    app = create_app(predictor, ServerSettings(page=False))
    ready, calls = threading.Event(), queue.SimpleQueue[Callable[[], object]]()

    def serve(listening: socket.socket) -> None:
        stop = asyncio.Event()

        def started() -> None:
            loop = asyncio.get_running_loop()
            calls.put(lambda: loop.call_soon_threadsafe(stop.set))
            ready.set()

        run(app, listening, started, stop=stop)

    with closing(bind("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        ready.wait()
        try:
            yield address(listening)
        finally:
            calls.get()()
            thread.join()


def overhead(url: str, predictor: birefnet.Predictor, data: bytes, rounds: int) -> None:
    """One picture by request and by predictor, in turns."""
    client, options = Client(url), Options()

    def alone() -> None:
        options.encode(options.finish(options.predict(predictor, data)), "png")

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    for _ in range(5):  # warm-up
        client.remove(data)
        alone()
    requests, predictions = [], []
    for _ in range(rounds):
        requests += [seconds(lambda: client.remove(data)) for _ in range(10)]
        predictions += [seconds(alone) for _ in range(10)]
    # The quicker quarter: what else the machine does now and then belongs to neither.
    served, own = (1000 * statistics.quantiles(times)[0] for times in (requests, predictions))
    print(
        f"{predictor.engine.name}: one request {served:.1f} ms, predictor {own:.1f} ms: "
        f"{served - own:+.1f} ms"
    )


def throughput(url: str, pid: int, data: bytes, crowd: int, seconds: float, rounds: int) -> None:
    """Requests a second of one client and of several, in turns, and how busy the cores are."""
    together(url, crowd, lambda client, _: client.remove(data), for_seconds=2)
    speeds: dict[int, list[float]] = {1: [], crowd: []}
    busy: dict[int, list[float]] = {1: [], crowd: []}
    for _ in range(rounds):
        for clients, rates in speeds.items():
            start, worked = time.perf_counter(), processor_time(pid)
            done = together(url, clients, lambda client, _: client.remove(data), seconds)
            took = time.perf_counter() - start
            rates.append(done / took)
            busy[clients].append((processor_time(pid) - worked) / took)
    one, many = (statistics.mean(rates) for rates in speeds.values())
    print(f"1 client {one:.1f} requests/s, {crowd} clients {many:.1f}: {many / one:.2f} times")
    alone, crowded = (statistics.mean(rates) for rates in busy.values())
    print(f"cores busy {alone:.2f} and {crowded:.2f} of {os.cpu_count()}")


def memory(
    url: str, pid: int, predictor: birefnet.Predictor, side: int, crowd: int, requests: int
) -> None:
    """Many requests with different pictures, each answer checked."""
    pictures = [as_jpeg(picture(number, side)) for number in range(DIFFERENT)]
    expected = [predictor.predict(data).mask() for data in pictures]
    wrong: list[str] = []
    at_tenths: list[float] = []
    lock, done = threading.Lock(), 0

    def one(client: Client, number: int) -> None:
        nonlocal done
        which = number % DIFFERENT
        answer = np.asarray(Image.open(io.BytesIO(client.remove(pictures[which], "?kind=mask"))))
        if answer.shape != expected[which].shape:
            wrong.append(f"{number}: {answer.shape}")
        elif (off := np.abs(answer.astype(int) - expected[which]).max()) > NEAR:
            wrong.append(f"{number}: off by {off}")
        with lock:
            done += 1
            if done * 10 >= requests * (len(at_tenths) + 1):
                at_tenths.append(resident(pid))

    start = time.perf_counter()
    answered = together(url, crowd, one, for_requests=requests)
    seconds = time.perf_counter() - start
    print(f"{answered} of {requests} requests answered in {seconds:.0f} s, {len(wrong)} wrong")
    print(*wrong[:10], sep="\n", end="\n" if wrong else "")
    print("resident MB at each tenth: " + " ".join(f"{value:.0f}" for value in at_tenths))
    middle = statistics.median(at_tenths[1:])
    off = max(abs(value / middle - 1) for value in at_tenths[1:])
    print(f"after the first tenth at most {off:.1%} from the median")


def together(
    url: str,
    clients: int,
    call: Callable[[Client, int], object],
    for_seconds: float = float("inf"),
    for_requests: int = sys.maxsize,
) -> int:
    """Answers that so many clients got, each asking for the next when it has the last."""
    end = time.perf_counter() + for_seconds
    numbers = iter(range(for_requests))
    lock = threading.Lock()
    counts = [0] * clients

    def work(index: int) -> None:
        client = Client(url)
        while time.perf_counter() < end:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            call(client, number)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def processor_time(pid: int) -> float:
    """Of a process in all its threads, and of this one [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + time.process_time()


def resident(pid: int) -> float:
    """Memory of a process [MB]."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--side", type=int, default=512, help="of the pictures, about [px]")
    parser.add_argument("--seconds", type=float, default=8, help="of each turn of throughput")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    if arguments.clients < 2:
        parser.error("--clients are compared with one; give 2 or more")
    data = as_jpeg(picture(0, arguments.side))
    predictor = birefnet.load(arguments.model, engine=arguments.engine)
    if "overhead" in arguments.parts:
        stand_in = birefnet.Predictor(StandIn(), predictor.preprocess, name="stand-in")
        with server_here(stand_in) as url:
            overhead(url, stand_in, data, 4 * arguments.rounds)
    with server(arguments.model, arguments.engine) as (url, pid):
        print(f"{arguments.model}, {predictor.engine.name}, {arguments.side} px")
        if "overhead" in arguments.parts:
            overhead(url, predictor, data, 2 * arguments.rounds)
        if "throughput" in arguments.parts:
            throughput(url, pid, data, arguments.clients, arguments.seconds, arguments.rounds)
        if "memory" in arguments.parts:
            memory(url, pid, predictor, arguments.side, arguments.clients, arguments.requests)


if __name__ == "__main__":
    main()
