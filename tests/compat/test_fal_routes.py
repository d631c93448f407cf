"""fal.ai's BiRefNet: what its clients send, directly and queued, and the answers they read."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from birefnet.compat.fal.fields import MODELS
from birefnet.compat.http.files import ResultFiles
from birefnet.inference.predictor import Predictor
from birefnet.serving.app import create_app
from birefnet.serving.errors import NotFound
from birefnet.serving.service import Service
from birefnet.serving.settings import ServerSettings
from birefnet.weights.catalogue import CHECKPOINTS
from compat_client import KEY, disc_file, pixels_of, serving
from fakes import PLAIN, BrightEngine, disc

PATH = "/fal-ai/birefnet/v2"
FILE = {"url", "content_type", "file_name", "file_size", "width", "height"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving() as made:
        yield made


def uri(data: bytes | None = None, kind: str = "image/png") -> str:
    data = disc_file() if data is None else data
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def finished(client: TestClient, sent: Any, seconds: float = 60) -> Any:
    """Poll as `fal_client.subscribe` does: every tenth of a second, with logs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = client.get(sent["status_url"], params={"logs": "true"})
        status = answer.json()
        assert status["logs"] == []
        assert (answer.status_code, status["status"]) in (
            (202, "IN_QUEUE"),
            (202, "IN_PROGRESS"),
            (200, "COMPLETED"),
        )
        if status["status"] == "COMPLETED":
            return status
        time.sleep(0.02)
    raise AssertionError("it was never done")


def test_a_direct_answer_holds_a_file(client: TestClient) -> None:
    answer = client.post(PATH, json={"image_url": uri()})
    assert answer.status_code == 200
    content = answer.json()
    assert set(content) == {"image", "mask_image"}
    assert content["mask_image"] is None
    image = content["image"]
    assert set(image) == FILE
    assert (image["width"], image["height"], image["content_type"]) == (64, 48, "image/png")
    assert image["file_name"].endswith(".png")
    fetched = client.get(image["url"])
    assert fetched.headers["content-type"] == "image/png"
    assert len(fetched.content) == image["file_size"]
    assert pixels_of(fetched.content)[24, 32, 3] == 255


def test_everything_that_can_be_asked_for(client: TestClient) -> None:
    fields = {
        "image_url": uri(disc_file(format="jpeg"), "image/jpeg"),
        "operating_resolution": "1024x1024",
        "output_format": "webp",
        "output_mask": True,
        "refine_foreground": False,
        "sync_mode": True,
    }
    content = client.post(PATH, json=fields).json()
    for name, shape in (("image", (48, 64, 4)), ("mask_image", (48, 64, 3))):
        assert content[name]["content_type"] == "image/webp"
        head, _, text = content[name]["url"].partition(",")
        assert head == "data:image/webp;base64"
        assert pixels_of(base64.b64decode(text)).shape == shape


def test_a_gif_and_the_mask_alone(client: TestClient) -> None:
    fields = {"image_url": uri(), "output_format": "gif", "mask_only": True, "sync_mode": True}
    image = client.post(PATH, json=fields).json()["image"]
    assert image["content_type"] == "image/gif"
    from PIL import Image

    opened = Image.open(io.BytesIO(base64.b64decode(image["url"].partition(",")[2])))
    assert np.asarray(opened.convert("L"))[24, 32] > 250


def test_models_of_fal_are_released_networks(client: TestClient) -> None:
    assert set(MODELS.values()) <= set(CHECKPOINTS)
    answer = client.post(PATH, json={"image_url": uri(), "model": "portraits"})
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert detail["loc"] == ["body", "model"]
    assert "portraits" in detail["msg"]
    named = client.post(PATH, json={"image_url": uri(), "model": "bright"})
    assert named.status_code == 200


def test_fal_names_are_mapped_where_the_operator_offers_them() -> None:
    settings = ServerSettings(page=False, models=("portrait=nano",))
    with serving(settings) as client:
        fields = {"image_url": uri(), "model": "Portrait", "sync_mode": True}
        answer = client.post(PATH, json=fields)
        assert (answer.status_code, answer.headers["X-Model"]) == (200, "portrait")
        assert "X-Model-Requested" not in answer.headers


def test_the_first_version_s_path(client: TestClient) -> None:
    """fal-ai/birefnet, beside fal-ai/birefnet/v2."""
    first = PATH.removesuffix("/v2")
    fields = {"image_url": uri(), "model": "General Use (Light)", "sync_mode": True}
    urls = [client.post(path, json=fields).json()["image"]["url"] for path in (first, PATH)]
    assert urls[0] == urls[1]
    queued = client.post("/queue" + first, json=fields).json()
    finished(client, queued)
    assert client.get(queued["response_url"]).json()["image"]["url"].startswith("data:")


@pytest.mark.parametrize(
    ("fields", "place", "kind"),
    [
        ({}, ["body", "image_url"], "missing"),
        ({"image_url": 5}, ["body", "image_url"], "string_type"),
        ({"image_url": "ftp://example.org/a"}, ["body", "image_url"], "file_download_error"),
        ({"image_url": "http://10.0.0.1/a"}, ["body", "image_url"], "file_download_error"),
        ({"image_url": "data:image/png;base64,AAAA"}, ["body", "image_url"], "image_load_error"),
        ({"image_url": "data:image/png,x"}, ["body"], "value_error"),
        ({"output_format": "bmp", "image_url": "x"}, ["body", "output_format"], "literal_error"),
        ({"operating_resolution": "9x9", "image_url": "x"}, None, "literal_error"),
        (
            {"operating_resolution": "2304x2304", "model": "Matting", "image_url": "x"},
            ["body"],
            "value_error",
        ),
        ({"output_mask": "perhaps", "image_url": "x"}, ["body", "output_mask"], "bool_parsing"),
    ],
)
def test_errors_are_lists_of_details(
    client: TestClient, fields: Any, place: list[str] | None, kind: str
) -> None:
    answer = client.post(PATH, json=fields)
    assert answer.status_code == 422
    assert answer.headers["X-Fal-Retryable"] == "false"
    (detail,) = answer.json()["detail"]
    assert detail["loc"] == (place or detail["loc"])
    assert detail["type"] == kind
    assert detail["msg"]


@pytest.mark.parametrize("base", ["/queue", "http://queue.example.org"])
def test_the_queue_as_its_clients_walk_through_it(client: TestClient, base: str) -> None:
    sent = client.post(base + PATH, json={"image_url": uri(), "output_mask": True}).json()
    assert {"request_id", "response_url", "status_url", "cancel_url"} <= set(sent)
    assert sent["status"] == "IN_QUEUE"
    assert sent["queue_position"] == 0
    # The path to the request has the name of the app, without v2.
    assert sent["status_url"].endswith(f"/fal-ai/birefnet/requests/{sent['request_id']}/status")
    status = finished(client, sent)
    assert status["metrics"]["inference_time"] >= 0
    assert "error" not in status
    result = client.get(sent["response_url"])
    assert result.status_code == 200
    assert set(result.json()["mask_image"]) == FILE
    # Others keep the whole path.
    for path in (PATH, "/queue" + PATH):
        assert client.get(f"{path}/requests/{sent['request_id']}").json() == result.json()
    late = client.put(sent["cancel_url"])
    assert (late.status_code, late.json()) == (400, {"status": "ALREADY_COMPLETED"})


def test_the_status_can_be_streamed(client: TestClient) -> None:
    sent = client.post("/queue" + PATH, json={"image_url": uri()}).json()
    with client.stream("GET", sent["status_url"] + "/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in events)
    assert json.loads(events[-1].removeprefix("data: "))["status"] == "COMPLETED"


def test_what_fails_in_the_queue_is_told_with_its_result(client: TestClient) -> None:
    sent = client.post("/queue" + PATH, json={"image_url": uri(b"no picture")}).json()
    status = finished(client, sent)
    assert status["error_type"] == "invalid_picture"
    answer = client.get(sent["response_url"])
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "image_url"]


def test_requests_that_never_were(client: TestClient) -> None:
    for path in ("", "/status", "/status/stream"):
        answer = client.get(f"/queue/fal-ai/birefnet/requests/none{path}")
        assert answer.status_code == 404
        assert isinstance(answer.json()["detail"], str)
    assert client.put("/queue/fal-ai/birefnet/requests/none/cancel").status_code == 404


def test_webhooks_are_refused(client: TestClient) -> None:
    answer = client.post(
        "/queue" + PATH,
        params={"fal_webhook": "https://example.org/hook"},
        json={"image_url": uri()},
    )
    assert answer.status_code == 422
    assert "webhook" in answer.json()["detail"][0]["msg"]


class Slow(BrightEngine):
    """Waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()

    def infer(self, batch: Any) -> Any:
        self.may_go.wait(30)
        return super().infer(batch)


def test_a_request_can_be_asked_about_and_cancelled_while_it_runs() -> None:
    engine = Slow()
    settings = ServerSettings(page=False, preload=False)
    with TestClient(create_app(Predictor(engine, PLAIN, name="slow"), settings)) as client:
        sent = client.post("/queue" + PATH, json={"image_url": uri()}).json()
        assert client.get(sent["status_url"]).status_code == 202
        early = client.get(sent["response_url"])
        assert (early.status_code, early.json()["detail"]) == (400, "Request is still in progress")
        answer = client.put(sent["cancel_url"])
        assert (answer.status_code, answer.json()["status"]) == (202, "CANCELLATION_REQUESTED")
        engine.may_go.set()
        assert finished(client, sent)["error_type"] == "client_cancelled"
        assert client.get(sent["response_url"]).status_code == 410


def test_keys_come_as_its_clients_send_them() -> None:
    with serving(ServerSettings(page=False, api_keys=(KEY,))) as client:
        refused = client.post(PATH, json={"image_url": uri()})
        assert refused.status_code == 401
        assert isinstance(refused.json()["detail"], str)
        keyed = {"Authorization": f"Key {KEY}"}
        answer = client.post(PATH, json={"image_url": uri()}, headers=keyed)
        assert answer.status_code == 200
        # A result's address is a secret of its own.
        assert client.get(answer.json()["image"]["url"]).status_code == 200


def small_video() -> bytes:
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(disc(), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize("how", ["", "/queue"])
def test_a_video(client: TestClient, how: str) -> None:
    fields = {
        "video_url": uri(small_video(), "video/mp4"),
        "video_output_type": "VP9 (.webm)",
        "video_quality": "low",
        "video_write_mode": "fast",
        "output_mask": True,
    }
    answer = client.post(how + PATH + "/video", json=fields)
    assert answer.status_code == 200
    content = answer.json()
    if how:
        finished(client, content)
        content = client.get(content["response_url"]).json()
    for name in ("video", "mask_video"):
        video = content[name]
        assert set(video) == FILE | {"duration", "num_frames", "fps"}
        assert (video["width"], video["height"], video["num_frames"]) == (64, 48, 4)
        assert video["content_type"] == "video/webm"
        data = client.get(video["url"]).content
        assert len(data) == video["file_size"]
        assert data.startswith(b"\x1aE\xdf\xa3")


def test_a_video_without_transparency_has_a_black_ground(client: TestClient) -> None:
    av = pytest.importorskip("av")
    fields = {"video_url": uri(small_video(), "video/mp4"), "sync_mode": True}
    video = client.post(PATH + "/video", json=fields).json()["video"]
    assert video["content_type"] == "video/mp4"
    data = base64.b64decode(video["url"].partition(",")[2])
    with av.open(io.BytesIO(data)) as file:
        frame = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert frame[0, 0].max() < 20
    assert frame[24, 32].min() > 200


def test_what_is_no_video_is_refused(client: TestClient) -> None:
    for data in (b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", b"\0" * 100):
        answer = client.post(PATH + "/video", json={"video_url": uri(data, "video/mp4")})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["msg"]


def test_results_are_forgotten(tmp_path: Any) -> None:
    settings = ServerSettings(keep_s=1000, jobs_folder=str(tmp_path))
    files = ResultFiles(settings, most_bytes=25)
    tokens = [files.add(bytes(10), "a.png", "image/png").split("/")[2] for _ in range(3)]
    with pytest.raises(NotFound):
        files.get(tokens[0])
    assert files.get(tokens[2]).bytes == 10
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    files.close()
    assert not list(tmp_path.iterdir())


def test_an_old_result_is_gone() -> None:
    files = ResultFiles(ServerSettings(keep_s=0))
    token = files.add(b"x", "a.png", "image/png").split("/")[2]
    time.sleep(0.01)
    with pytest.raises(NotFound):
        files.get(token)
    files.close()


def test_the_server_deletes_its_results_when_it_stops(tmp_path: Any) -> None:
    with serving(ServerSettings(page=False, jobs_folder=str(tmp_path))) as client:
        client.post(PATH, json={"image_url": uri()})
        assert [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_url_is_fetched(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetched(self: Service, url: str, **_: Any) -> bytes:
        return disc_file()

    monkeypatch.setattr(Service, "fetch", fetched)
    answer = client.post(PATH, json={"image_url": "https://example.org/input.jpeg"})
    assert answer.status_code == 200
