"""What the system does on OpenStack, told once: the same scenarios play on the fake and on a real cloud."""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from lando.views.job_status import JobStatus
from tests.support.fake_openstack import Fault
from tests.support.fake_openstack.faults import Faults
from tests.support.local_site import Gate, wait_for, workflow_on_vms
from tests.support.openstack_site import OpenStackSite, Stage
from tests.support.usage_monitor import Watch

EXAMPLES = Path(__file__).parents[2] / "examples"
CREATE, DELETE = "POST compute /servers", "DELETE compute /servers/{id}"
KEPT_FREE = "the project's quota is kept free for it until [^;]+"
PLENTY = 30
"""Attempts of jobs that meet many failures."""


def a_walkthrough(stage: Stage) -> None:
    """The original's job file, with its client and its configuration, in the original's CWL runner."""
    site = stage.site(quick=False)
    daemon = site.start_daemon()
    example = (EXAMPLES / "toyworkflow.yml").read_text()
    there = f"\ngit_clone: {(EXAMPLES / 'toyworkflow').as_uri()}\n"  # VMs of the fake have this path, too
    (site.root / "toyworkflow.yml").write_text(example.replace("\ngit_clone: toyworkflow\n", there))
    job = client(site, "start_worker", site.root / "toyworkflow.yml")
    site.wait_all_ended([job], site.patience)
    assert site.job(job)["state"] == "done", site.daemon_log()
    assert site.path(job) == ["queued", "booting", "running", "terminating", "done"]
    assert "report" in json.loads(site.command("outputs", "--json", job).stdout)
    site.nothing_is_left()
    client(site, "shutdown_server")
    assert daemon.wait(20) == 0


def client(site: OpenStackSite, *arguments: str | Path) -> str:
    """Run ``lando-client landoconfig.yml``; what it prints."""
    return site.command(site.config.name, *arguments, program="lando-client").stdout.strip()


def a_walkthrough_with_a_floating_ip(stage: Stage) -> None:
    """While the workflow runs, its server has a floating IP of the pool, which goes with it."""
    site, gate = stage.site(pool=True), stage.gate()
    site.start_daemon()
    job = client(site, "start_worker", workflow_on_vms(site.root, gate.script))
    site.wait_until(site.floating_ips, "the floating IP")
    [server] = site.servers()
    assert server.name == site.job(job)["vm"]["name"]
    arrive(site, gate)
    [floating_ip] = site.wait_until(lambda: [ip for ip in site.floating_ips() if ip.server_port], "its use")
    site.wait_until(lambda: site.job(job)["vm"]["ip"] == floating_ip.address, "its address in status")
    gate.let_through()
    site.wait_all_done([job])
    assert site.cloud.get(server.id) is None
    site.nothing_is_left()


def arrive(site: OpenStackSite, gate: Gate, count: int = 1) -> None:
    """Wait until so many workflows have come to the gate."""
    site.wait_until(lambda: gate.arrivals >= count, f"{count} workflows to begin")


def thirty_jobs_under_a_quota_of_five_servers(stage: Stage) -> None:
    """No more than five at any time, nobody fails or is overtaken, and who waits knows why."""
    site, gate = stage.site(), stage.gate()
    site.start_daemon()
    with stage.facility.quota(instances=5), watching(stage) as watch:
        jobs = site.queue_jobs(30, gate.script)
        arrive(site, gate, 5)
        waiting = who_waits(site, jobs)
        assert [each.job.id for each in waiting] == jobs[5:]
        sentence = "waits for the project's quota: 5 of 5 VMs are in use"
        first, *behind = (each.reason for each in waiting)
        assert re.fullmatch(f"{sentence}; {KEPT_FREE}; position 1", first)
        sentence = f"waits behind job {jobs[5][:8]}, for which the project's quota is kept free until [^;]+"
        for place, reason in enumerate(behind, 2):
            assert re.fullmatch(f"{sentence}; position {place}", reason)
        begun = time.monotonic()
        gate.let_through(30)
        ended = site.wait_all_done(jobs)
        took = time.monotonic() - begun
        site.nothing_is_left()
    assert watch.most.servers == 5
    assert all(each.job.attempt == 1 for each in ended)
    assert is_in_order(site, jobs)
    single, shared = site.calls()
    stage.tell(
        f"OpenStack, 30 jobs under a quota of 5 servers in {took:.0f} s: at most {watch.most.servers} "
        f"servers in {watch.looks} looks; {sum(single.values()) / 30:.2f} calls to Nova a job {single}, "
        f"shared {shared}"
    )
    assert single[CREATE] == 30, "none was refused"
    assert sum(single.values()) <= 3 * 30


def watching(stage: Stage) -> Watch:
    """Looks as often as suits the cloud."""
    return Watch(stage.facility, 0.2 * stage.slowness)


def who_waits(site: OpenStackSite, jobs: Sequence[str]) -> list[JobStatus]:
    """Those in the queue, once all the others are with their servers."""

    def waiting() -> list[JobStatus]:
        shown = {each.job.id: each for each in site.shown(jobs)}
        queued = [shown[job] for job in jobs if job in shown and shown[job].job.state == "queued"]
        told = all("quota" in each.reason for each in queued)
        return queued if len(shown) == len(jobs) and told else []

    found: list[JobStatus] = site.wait_until(waiting, "those who wait to know why")
    return found


def is_in_order(site: OpenStackSite, jobs: Sequence[str]) -> bool:
    """Whether the first admissions are in the order of submission."""
    admitted = [next(x.at for x in site.history(job) if x.target == "booting") for job in jobs]
    return admitted == sorted(admitted)


def jobs_of_two_sizes_under_a_quota_of_cores(stage: Stage) -> None:
    """The larger ones wait until there is room for them, and nobody overtakes them."""
    site, gate = stage.site(), stage.gate()
    site.start_daemon()
    with stage.facility.quota(cores=5), watching(stage) as watch:
        jobs = site.queue_jobs(1, gate.script, "large", flavor="m1.medium")
        arrive(site, gate)  # so that the size of the others is not known yet
        for n in range(3):
            jobs += site.queue_jobs(2, gate.script, f"small{n}")
            jobs += site.queue_jobs(1, gate.script, f"large{n}", flavor="m1.medium")
        arrive(site, gate, 3)
        waiting = who_waits(site, jobs)
        assert [each.job.id for each in waiting] == jobs[3:]
        sentence = "waits for the project's quota: 4 of 5 cores are in use, and this job needs 2"
        assert re.fullmatch(f"{sentence}; {KEPT_FREE}; position 1", waiting[0].reason)
        gate.let_through(len(jobs))
        ended = site.wait_all_done(jobs)
        site.nothing_is_left()
    assert watch.most.cores <= 5
    assert all(each.job.attempt == 1 for each in ended)
    assert is_in_order(site, jobs)
    assert site.calls()[0][CREATE] == len(jobs)


def others_take_part_of_the_quota(stage: Stage) -> None:
    """What servers of others take is left to them, and taken up when they go; they are not touched."""
    site, gate = stage.site(), stage.gate()
    with stage.facility.quota(instances=5), watching(stage) as watch, site.foreign():
        with site.foreign():
            site.start_daemon()
            jobs = site.queue_jobs(10, gate.script)
            arrive(site, gate, 3)
            waiting = who_waits(site, jobs)
            sentence = "waits for the project's quota: 5 of 5 VMs are in use, 2 of them by others"
            assert re.fullmatch(f"{sentence}; {KEPT_FREE}; position 1", waiting[0].reason)
            assert len(waiting) == 7
        arrive(site, gate, 4)
        gate.let_through(len(jobs))
        ended = site.wait_all_done(jobs)
        site.nothing_is_left()
    assert watch.most.servers == 5
    assert all(each.job.attempt == 1 for each in ended)
    assert is_in_order(site, jobs)
    assert site.calls()[0][CREATE] == len(jobs)


def servers_that_fail_in_every_way(stage: Stage) -> None:
    """Builds that fail, servers that never run their user data, servers that die: all jobs end well."""
    site = stage.site(pool=True, boot=8 * stage.slowness)
    with (
        stage.facility.quota(instances=12),
        stage.facility.knobs(
            spawn_delay=0.5,
            spawn_fail_every=4,
            never_run_userdata_every=5,
            die_after_s=2 * stage.slowness,
            die_every=6,
        ),
        site.foreign(),
    ):
        site.start_daemon()
        begun = time.monotonic()
        jobs = site.queue_jobs(40, f"sleep {2 * stage.slowness:g}", attempts=PLENTY)
        ended = site.wait_all_done(jobs)
        took = time.monotonic() - begun
        site.nothing_is_left()
    reasons = [
        change.reason for job in jobs for change in site.history(job) if change.target == "terminating"
    ]
    seen = {
        words: sum(words in reason for reason in reasons)
        for words in ("could not be built", "did not report within", "was lost", "succeeded")
    }
    attempts = [each.job.attempt for each in ended]
    stage.tell(
        f"OpenStack, 40 jobs whose servers fail: {took:.0f} s, {sum(attempts)} attempts, at most "
        f"{max(attempts)} of a job; {seen}"
    )
    assert min(seen.values()) > 0


def answers_that_are_lost(stage: Stage) -> None:
    """Half of the creates and deletes go wrong on their way there or back: all jobs end well, none twice."""
    site = stage.site(pool=True)
    site.proxy.faults = faults = disturbed(a_seed(), 4 * stage.slowness)
    with stage.facility.quota(instances=10), site.foreign():
        site.start_daemon()
        begun = time.monotonic()
        jobs = site.queue_jobs(40)
        ended = site.wait_all_done(jobs)
        took = time.monotonic() - begun
        site.nothing_is_left(sweeps=True)
    happened = sum(fault["happened"] for fault in faults.describe())
    single, _ = site.calls()
    assert not [each for each in ended if each.job.failures], site.daemon_log()
    stage.tell(
        f"OpenStack, 40 jobs, {happened} creates and deletes disturbed: {took:.0f} s, "
        f"{site.runs} workflows run; {single}"
    )
    assert happened >= 20


def a_seed() -> int:
    """Told when the test fails."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return seed


def disturbed(seed: int, surface_after: float) -> Faults:
    """About half of the creates and deletes go wrong; some servers are listed late, and so have twins."""
    faults = Faults(seed)
    faults.add(Fault(CREATE, share=0.05, work="once", ending="close", surface_after=surface_after))
    for calls in (CREATE, DELETE):
        # The share is of the calls that those before have left alone.
        faults.add(Fault(calls, share=0.18, work="once", ending="close"))
        faults.add(Fault(calls, share=0.10, ending="close"))
        faults.add(Fault(calls, share=0.08, status=503, html=True))
        faults.add(Fault(calls, share=0.08, status=409, message="It is in use. Please try again."))
        faults.add(Fault(calls, share=0.06, status=429, retry_after="1"))
        faults.add(Fault(calls, share=0.06, work="once", hang=2.0, status=504, html=True))
        faults.add(Fault(calls, share=0.06, work="once", ending="cut"))
    return faults


def a_twin_that_surfaces_late(stage: Stage) -> None:
    """A create whose answer is lost is sent again in vain; the first server counts for nothing, and goes."""
    slow = stage.slowness
    site = stage.site()
    lost = site.proxy.faults.add(Fault(CREATE, nth=1, work="once", ending="close", surface_after=8 * slow))
    with stage.facility.knobs(userdata_delay=4 * slow):
        site.start_daemon()
        [job] = site.queue_jobs(1, f"sleep {6 * slow:g}")
        twins = site.wait_until(lambda: len(found := site.servers()) == 2 and found, "the second server")
        assert lost.happened == 1
        first, second = sorted(twins, key=lambda server: server.id != site.job(job)["vm"]["id"])
        assert (first.job_id, first.name) == (second.job_id, second.name)
        [ended] = site.wait_all_done([job])
        site.nothing_is_left(sweeps=True)
    assert (ended.job.attempt, ended.job.failures) == (1, 0)
    assert site.runs == 2
    ignored = f"job {job}: [0-9]+ reports? (was|were) ignored"
    assert re.search(ignored, site.daemon_log()), "the twin's report was not heard, or not ignored"
    assert re.search("server .* which belonged to no job, is gone", site.daemon_log())


def tokens_revoked_in_the_middle(stage: Stage) -> None:
    """The daemon logs in again, as often as it takes."""
    site, gate = stage.site(pool=True), stage.gate()
    site.start_daemon()
    with stage.facility.quota(instances=4), site.foreign():
        stage.facility.revoke_tokens()
        jobs = site.queue_jobs(9, gate.script)
        for arrivals in (3, 6, 9):
            arrive(site, gate, arrivals)
            stage.facility.revoke_tokens()  # while nothing is built, for which the cloud logs in, too
            gate.let_through(3)
        ended = site.wait_all_done(jobs)
        site.nothing_is_left()
    again = [each.job for each in ended if (each.job.attempt, each.job.failures) != (1, 0)]
    assert not again, "\n".join(site.command("history", job.id).stdout for job in again)
    assert site.calls()[1]["POST identity /auth/tokens"] > 3


def nova_away_for_a_while(stage: Stage) -> None:
    """Who runs goes on, who has ended waits for its server to go, who waits is told why: nobody fails."""
    site, gate = stage.site(direct=True), stage.gate()
    site.start_daemon()
    with stage.facility.quota(instances=4), site.foreign():
        jobs = site.queue_jobs(9, gate.script)
        arrive(site, gate, 3)
        with stage.facility.stopped("nova-api"):
            gate.let_through(2)
            site.wait_until(
                lambda: sum(each.job.state == "terminating" for each in site.shown(jobs)) == 2, "two ends"
            )
            time.sleep(12 * stage.slowness)  # how long it is away is what is tested
            assert "the cloud does not answer" in site.daemon_log()
            assert site.runs == 3
        gate.let_through(len(jobs))
        ended = site.wait_all_done(jobs)
        site.nothing_is_left()
    assert all((each.job.attempt, each.job.failures) == (1, 0) for each in ended)
    assert "the cloud answers again" in site.daemon_log()


def what_leaked_is_swept(stage: Stage) -> None:
    """With our mark and without a job: deleted after the grace period. Without our mark: left alone."""
    grace = 3.0 * stage.slowness
    site = stage.site(pool=True, grace=grace)
    with site.foreign() as theirs:
        server = site.leak()
        floating_ip = site.cloud.floating_ips.allocate(uuid.uuid4().hex, site.deployment)
        begun = time.monotonic()
        site.start_daemon()
        site.wait_until(lambda: not site.servers(), "the leaked server to be gone")
        assert time.monotonic() - begun >= grace
        site.wait_until(lambda: not site.floating_ips(), "the leaked floating IP to be gone")
        for id_ in (server, floating_ip.id):
            wait_for(lambda: f"({id_}), which belonged to no job, is gone" in site.daemon_log(), "a line")  # noqa: B023
    assert theirs not in site.daemon_log()


def a_daemon_that_is_killed_again_and_again(stage: Stage) -> None:
    """At random moments, with 20 jobs that have floating IPs: all end well, none for a second time."""
    chance = random.Random(a_seed())
    site = stage.site(pool=True)
    with stage.facility.quota(instances=10), site.foreign():
        dying = site.start_daemon()
        jobs = site.queue_jobs(20, "sleep 0.5")
        for _ in range(6):
            time.sleep(chance.uniform(0.0, 2.5) * stage.slowness)  # the moment itself is what is tested
            dying.kill()
            dying.wait()
            dying = site.start_daemon(ready=False)
        ended = site.wait_all_done(jobs)
        site.nothing_is_left()
    assert all((each.job.attempt, each.job.failures) == (1, 0) for each in ended), site.daemon_log()
    assert site.runs == 20


SCENARIOS: tuple[Callable[[Stage], None], ...] = (
    answers_that_are_lost,
    servers_that_fail_in_every_way,
    thirty_jobs_under_a_quota_of_five_servers,
    a_daemon_that_is_killed_again_and_again,
    a_walkthrough,
    a_walkthrough_with_a_floating_ip,
    a_twin_that_surfaces_late,
    jobs_of_two_sizes_under_a_quota_of_cores,
    others_take_part_of_the_quota,
    tokens_revoked_in_the_middle,
    nova_away_for_a_while,
    what_leaked_is_swept,
)
"""The longest first, which suits a parallel run."""
