"""What waits in the queue is read before anything is concluded from a server list or a deadline."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

from benchmarks.emptycloud import EmptyCloud
from lando.app.app import App
from lando.app.service import Service
from lando.cloud.interface import Server, ServerRequest
from lando.config import site_config as config
from lando.daemon.receive import BATCH
from lando.messages import Message
from lando.states.job import Job, JobSpec
from lando.store.store import Store
from lando.workqueue.embedded import EmbeddedPublisher
from tests.support.local_site import wait_for


class OneServerDown(EmptyCloud):
    """A cloud whose only server is down."""

    def __init__(self) -> None:
        self.server: Server | None = None

    def create(self, request: ServerRequest) -> Server:
        self.server = Server("s", request.name, "ACTIVE", request.mark, request.deployment)
        return self.server

    def servers(self) -> list[Server]:
        return [self.server] if self.server else []

    def get(self, server_id: str) -> Server | None:
        return self.server

    def delete(self, server_id: str) -> bool:
        self.server = None
        return True


class Serving:
    """A daemon in a thread, over a stub cloud."""

    def __init__(self, site: App) -> None:
        self.service = Service(site)
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.service.run, args=(self.ready.set,))
        self.thread.start()
        assert self.ready.wait(30)

    def stop(self) -> None:
        self.service.daemon.stop()
        self.thread.join()
        self.service.close()


def a_site(root: Path) -> tuple[App, OneServerDown]:
    site = App(config.embedded(root / "state"))
    cloud = OneServerDown()
    site.__dict__["cloud"] = cloud
    return site, cloud


def job_of(site: App, job_id: str) -> Job | None:
    store = Store(site.config.database_url)
    with store.transaction() as transaction:
        found = transaction.job(job_id)
    store.close()
    return found


def test_a_result_far_back_in_the_queue_outweighs_a_server_that_is_down(tmp_path: Path) -> None:
    site, cloud = a_site(tmp_path)
    job_id = str(uuid.uuid4())
    body = JobSpec("/nowhere", ".", {}, "tool.cwl", attempts=1).as_body()
    serving = Serving(site)
    site.publisher().publish(Message("start_worker", body, job=job_id).encode())
    wait_for(lambda: (job := job_of(site, job_id)) is not None and job.server_id, "the server")
    serving.stop()

    job = job_of(site, job_id)
    assert job is not None and site.embedded_queue is not None
    worker = EmbeddedPublisher(site.embedded_queue, "worker")
    token = job.requests[0].token
    for seq in range(1, BATCH + 50):
        worker.publish(Message("worker_progress", {}, job_id, 1, token, seq).encode())
    result = {"outcome": "succeeded", "outputs": {}}
    worker.publish(Message("workflow_finished", result, job_id, 1, token, BATCH + 50).encode())
    assert cloud.server is not None
    cloud.server = Server("s", "n", "SHUTOFF", cloud.server.mark, cloud.server.deployment, fault="rebooted")

    serving = Serving(site)
    try:
        wait_for(lambda: (job := job_of(site, job_id)) and job.state in ("done", "failed"), "the end")
    finally:
        serving.stop()
    job = job_of(site, job_id)
    assert job is not None
    assert (job.state, job.outcome) == ("done", "succeeded"), job.reason


def test_an_invalid_name_makes_a_failed_job_and_shows_no_secret(tmp_path: Path) -> None:
    site, _ = a_site(tmp_path)
    job_id = str(uuid.uuid4())
    body = {**JobSpec("https://me:hunter2@example.org/r.git", ".", {}, "t.cwl").as_body(), "name": ["x"]}
    serving = Serving(site)
    try:
        site.publisher().publish(Message("start_worker", body, job=job_id).encode())
        wait_for(lambda: (job := job_of(site, job_id)) and job.state == "failed", "the job to be refused")
    finally:
        serving.stop()
    job = job_of(site, job_id)
    assert job is not None
    assert "name" in job.reason
    assert "hunter2" not in job.reason
    assert site.dead_letters().all() == []


def test_no_worker_can_use_up_the_id_of_a_clients_message(tmp_path: Path) -> None:
    site, _ = a_site(tmp_path)
    job_id = str(uuid.uuid4())
    body = JobSpec("/nowhere", ".", {}, "t.cwl").as_body()
    site.publisher().close()  # makes the queue
    assert site.embedded_queue is not None
    worker = EmbeddedPublisher(site.embedded_queue, "worker")
    worker.publish(Message("worker_started", {}, job_id, 1, "guess", 1, id=f"start-{job_id}").encode())
    serving = Serving(site)
    try:
        site.publisher().publish(Message("start_worker", body, job=job_id, id=f"start-{job_id}").encode())
        wait_for(lambda: job_of(site, job_id), "the job", patience=20)
    finally:
        serving.stop()
