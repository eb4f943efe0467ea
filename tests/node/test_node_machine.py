"""The Pod's machine by scripts: order, restarts, probes, hooks, endings, statuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_script import START, Script, main, sidecar

from inferway.local.node.machine import values as v
from inferway.local.node.machine.backoff import RestartBackoff, go_seconds

HTTP = {"httpGet": {"port": 80}}


def test_the_plain_life_of_a_pod() -> None:
    pod = Script({"containers": [main()]})
    assert pod.log == ["volumes"]
    assert pod.status()["phase"] == "Pending"
    assert pod.waiting("main") == "ContainerCreating"
    assert pod.do(v.VolumesReady()) == ["sandbox"]
    assert pod.do(v.SandboxReady("127.77.1.1")) == ["start main"]
    assert pod.condition("PodReadyToStartContainers") == ("True", "")
    assert pod.condition("ContainersReady") == ("False", "ContainersNotReady")
    pod.started("main")
    assert pod.status()["phase"] == "Running"
    assert pod.condition("Ready") == ("True", "")
    assert [tell.reason for tell in pod.told] == ["Pulled", "Created", "Started"]
    assert pod.told[0].field_path == "spec.containers{main}"
    assert pod.do(v.Deleted(30)) == ["term main"]
    assert pod.exited("main", 143) == ["end sandbox"]
    assert pod.do(v.SandboxGone()) == ["finish"]


def test_init_containers_run_one_after_the_other() -> None:
    pod = Script({"initContainers": [main("a"), main("b")], "containers": [main("c"), main("d")]})
    assert pod.waiting("c") == "PodInitializing"
    assert pod.ready() == ["start a"]
    assert pod.condition("Initialized") == ("False", "ContainersNotInitialized")
    pod.started("a")
    assert pod.exited("a") == ["start b"]
    pod.started("b")
    assert pod.exited("b") == ["start c", "start d"]
    assert pod.condition("Initialized") == ("True", "")
    assert pod.row("a")["ready"] is True


def test_a_failing_init_container_is_repeated_or_fails_the_pod() -> None:
    pod = Script({"initContainers": [main("a")], "containers": [main()]})
    pod.ready()
    pod.started("a")
    assert pod.exited("a", 1) == ["start a #1"]
    pod.started("a")
    assert pod.exited("a", 1) == []
    assert pod.waiting("a") == "CrashLoopBackOff"
    assert pod.go(30) == [(10.0, "start a #2")]

    never = Script(
        {"initContainers": [main("a")], "containers": [main()], "restartPolicy": "Never"}
    )
    never.ready()
    never.started("a")
    assert never.exited("a", 1) == ["end sandbox"]
    assert never.status()["phase"] == "Failed"


def test_sidecars_start_before_and_end_after_the_main_containers() -> None:
    pod = Script(
        {
            "initContainers": [
                sidecar("one", startupProbe=HTTP),
                main("init"),
                sidecar("two"),
            ],
            "containers": [main()],
        }
    )
    assert pod.ready() == ["start one"]
    assert pod.started("one") == ["probe one startup"]
    assert pod.probed("one", "startup", True) == ["start init"]
    pod.started("init")
    assert pod.exited("init") == ["start two"]
    assert pod.started("two") == ["start main"]
    pod.started("main")
    assert pod.condition("Ready") == ("True", "")
    # A sidecar that ends is started again while the main container runs.
    assert pod.exited("two", 0) == ["start two #1"]
    assert pod.condition("Ready") == ("False", "ContainersNotReady")
    pod.started("two")
    assert pod.do(v.Deleted(30)) == ["term main"]
    assert pod.exited("main") == ["term two"]
    assert pod.exited("two") == ["term one"]
    assert pod.exited("one") == ["end sandbox"]


def test_a_job_with_a_sidecar_ends_when_its_main_container_has() -> None:
    pod = Script({"initContainers": [sidecar()], "containers": [main()], "restartPolicy": "Never"})
    pod.ready()
    pod.started("side")
    pod.started("main")
    assert pod.exited("main") == ["term side"]
    assert pod.status()["phase"] == "Running"
    assert pod.exited("side", 143) == ["end sandbox"]
    assert pod.status()["phase"] == "Succeeded"
    assert pod.condition("Ready") == ("False", "PodCompleted")
    pod.do(v.SandboxGone())
    assert pod.do(v.Deleted(0)) == ["finish"]


@pytest.mark.parametrize(
    ("policy", "code", "restarts", "phase"),
    [
        ("Always", 0, True, "Running"),
        ("Always", 1, True, "Running"),
        ("OnFailure", 0, False, "Succeeded"),
        ("OnFailure", 1, True, "Running"),
        ("Never", 0, False, "Succeeded"),
        ("Never", 1, False, "Failed"),
    ],
)
def test_restart_policies(policy: str, code: int, restarts: bool, phase: str) -> None:
    pod = Script({"containers": [main()], "restartPolicy": policy})
    pod.ready()
    pod.started("main")
    assert ("start main #1" in pod.exited("main", code)) is restarts
    assert pod.status()["phase"] == phase


def test_the_back_off_doubles_to_five_minutes_and_forgets_after_ten() -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    pauses = []
    for _ in range(8):
        pod.started("main")
        before = pod.at
        log = pod.exited("main", 1)
        if log:
            pauses.append(0.0)
            continue
        pauses.append(pod.go(pod.at + 400)[0][0] - before)
        pod.at = before + pauses[-1]
    assert pauses == [0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    row = pod.row("main")
    assert row["restartCount"] == 8
    pod.started("main")
    pod.at += 601
    assert pod.exited("main", 1) == ["start main #9"]


def test_the_words_of_a_crash_loop() -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    for _ in range(2):
        pod.started("main")
        pod.exited("main", 7)
    row = pod.row("main")
    assert row["state"] == {
        "waiting": {
            "reason": "CrashLoopBackOff",
            "message": "back-off 10s restarting failed container=main pod=pod_ns(u1)",
        }
    }
    ended = row["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")
    last = pod.told[-1]
    assert (last.reason, last.message) == (
        "BackOff",
        "Back-off restarting failed container main in pod pod_ns(u1)",
    )
    assert go_seconds(80) == "1m20s"


def test_readiness_looks_early_and_counts_by_its_period() -> None:
    pod = Script({"containers": [main(readinessProbe={**HTTP, "failureThreshold": 2})]})
    pod.ready()
    pod.started("main")
    asked = []
    while pod.at < 35:
        if pod.log[-1].startswith("probe"):
            asked.append(pod.at)
            pod.log.append("answered")
            pod.probed("main", "readiness", False)
        moment = pod.machine.next_at()
        assert moment is not None
        pod.go(moment - START)
    # Some early looks, then one at each period; only those at a period are told.
    assert {10.0, 20.0, 30.0} <= {round(one, 3) for one in asked}
    assert [tell.reason for tell in pod.told].count("Unhealthy") == 3
    assert len(asked) < 20
    pod.probed("main", "readiness", True)
    assert pod.condition("Ready") == ("True", "")


def test_a_liveness_probe_ends_its_container_with_its_own_grace() -> None:
    probe = {**HTTP, "failureThreshold": 2, "periodSeconds": 5, "terminationGracePeriodSeconds": 1}
    pod = Script({"containers": [main(livenessProbe=probe)]})
    pod.ready()
    assert pod.started("main") == ["probe main liveness"]
    assert pod.probed("main", "liveness", False) == []
    assert pod.go(5.5) == [(5.0, "probe main liveness")]
    assert pod.probed("main", "liveness", False, "HTTP probe failed with statuscode: 500") == [
        "term main"
    ]
    assert pod.go(6.6) == [(6.5, "kill main")]
    assert pod.exited("main", 137) == ["start main #1"]
    messages = [tell.message for tell in pod.told]
    assert "Liveness probe failed: HTTP probe failed with statuscode: 500" in messages
    assert "Container main failed liveness probe, will be restarted" in messages


def test_other_probes_wait_for_the_startup_probe() -> None:
    probes = {"startupProbe": HTTP, "livenessProbe": HTTP, "readinessProbe": HTTP}
    pod = Script({"containers": [main(**probes)]})
    pod.ready()
    assert pod.started("main") == ["probe main startup"]
    assert pod.row("main")["started"] is False
    assert sorted(pod.probed("main", "startup", True)) == [
        "probe main liveness",
        "probe main readiness",
    ]
    assert pod.row("main")["started"] is True
    assert pod.condition("Ready") == ("False", "ContainersNotReady")
    pod.probed("main", "readiness", True)
    assert pod.condition("Ready") == ("True", "")


def test_initial_delay_holds_for_every_look() -> None:
    pod = Script({"containers": [main(readinessProbe={**HTTP, "initialDelaySeconds": 180})]})
    pod.ready()
    assert pod.started("main") == []
    assert pod.go(179) == []
    assert pod.go(181) == [(180.0, "probe main readiness")]


def test_an_answer_about_an_earlier_run_counts_nothing() -> None:
    pod = Script({"containers": [main(livenessProbe={**HTTP, "failureThreshold": 1})]})
    pod.ready()
    pod.started("main")
    pod.exited("main", 1)
    pod.started("main")
    late = v.ProbeDone("main", v.ProbeKind.LIVENESS, False, "late", run=1)
    assert pod.do(late) == []


def test_hooks() -> None:
    hook = {"exec": {"command": ["true"]}}
    pod = Script({"containers": [main(lifecycle={"postStart": hook, "preStop": hook})]})
    pod.ready()
    assert pod.started("main") == ["hook main PostStart"]
    assert pod.waiting("main") == "ContainerCreating"
    pod.hooked("main", v.HookKind.POST_START)
    assert pod.condition("Ready") == ("True", "")
    assert pod.do(v.Deleted(10)) == ["hook main PreStop"]
    pod.at = 3.0
    assert pod.hooked("main", v.HookKind.PRE_STOP) == ["term main"]
    assert pod.go(11) == [(10.0, "kill main")]


def test_a_hook_that_uses_up_the_grace_leaves_two_seconds() -> None:
    hook = {"exec": {"command": ["sleep", "100"]}}
    pod = Script({"containers": [main(lifecycle={"preStop": hook})]})
    pod.ready()
    pod.started("main")
    pod.do(v.Deleted(10))
    assert pod.go(13) == [(10.0, "term main"), (12.0, "kill main")]


def test_a_failed_post_start_hook_kills() -> None:
    hook = {"exec": {"command": ["false"]}}
    pod = Script({"containers": [main(lifecycle={"postStart": hook})]})
    pod.ready()
    pod.started("main")
    assert pod.hooked("main", v.HookKind.POST_START, False) == ["kill main"]
    assert "FailedPostStartHook" in [tell.reason for tell in pod.told]


def test_deletion_without_grace_kills_at_once_and_may_come_later() -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    pod.started("main")
    assert pod.do(v.Deleted(30)) == ["term main"]
    pod.at = 1.0
    assert pod.do(v.Deleted(0)) == ["kill main"]
    assert pod.go(7) == [(6.0, "kill main")]


def test_deletion_at_every_moment_of_the_beginning() -> None:
    assert Script({"containers": [main()]}).do(v.Deleted(30), v.VolumesReady()) == ["finish"]
    pod = Script({"containers": [main()]})
    pod.do(v.VolumesReady())
    assert pod.do(v.Deleted(30), v.SandboxReady("127.77.1.1")) == ["end sandbox"]
    pod = Script({"containers": [main()]})
    pod.ready()
    assert pod.do(v.Deleted(30)) == []
    assert pod.started("main") == ["term main"]


@pytest.mark.parametrize(
    "reason",
    ["ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "ErrImageNeverPull"],
)
def test_containers_that_cannot_begin_are_tried_again(reason: str) -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    assert pod.do(v.StartFailed("main", reason, "why")) == []
    assert pod.waiting("main") == reason
    assert pod.status()["phase"] == "Pending"
    assert pod.go(10.5) == [(10.0, "start main")]
    pod.do(v.StartFailed("main", reason, "why"))
    assert pod.waiting("main") == reason
    assert pod.row("main")["restartCount"] == 0
    assert pod.go(60) == [(30.5, "start main")]


def test_a_pull_that_fails_is_told_as_a_kubelet_does() -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    pod.do(v.StartFailed("main", "ErrImagePull", "why"))
    assert pod.row("main")["state"]["waiting"] == {"reason": "ErrImagePull", "message": "why"}
    assert pod.go(3) == []
    assert pod.row("main")["state"]["waiting"] == {
        "reason": "ImagePullBackOff",
        "message": 'Back-off pulling image "busybox:1": ErrImagePull: why',
    }
    assert pod.go(10.5) == [(10.0, "start main")]
    pod.do(v.StartFailed("main", "ErrImagePull", "why"))
    assert pod.waiting("main") == "ErrImagePull"
    failed = [
        ("Pulling", 'Pulling image "busybox:1"', False),
        ("Failed", 'Failed to pull image "busybox:1": why', True),
        ("Failed", "Error: ErrImagePull", True),
    ]
    back_off = [
        ("BackOff", 'Back-off pulling image "busybox:1"', False),
        ("Failed", "Error: ImagePullBackOff", True),
    ]
    told = [(tell.reason, tell.message, tell.warning) for tell in pod.told]
    assert told == [*failed, *back_off, *failed]


@pytest.mark.parametrize(
    ("reason", "starts"),
    [
        ("ErrImagePull", ["start main"]),
        ("ErrImageNeverPull", ["start main"]),
        ("CreateContainerError", ["start main"]),
        ("CreateContainerConfigError", []),
    ],
)
def test_a_changed_image_table_ends_the_back_off(reason: str, starts: list[str]) -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    pod.do(v.StartFailed("main", reason, "why"))
    pod.go(3)
    assert pod.do(v.ImagesChanged(frozenset())) == []
    assert pod.do(v.ImagesChanged(frozenset({"main"}))) == starts


def test_an_image_that_was_pulled() -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    pod.do(v.Pulling("main"), v.Pulling("main"), v.Started("main", pulled="took 2s"))
    told = [(tell.reason, tell.message) for tell in pod.told]
    assert told[:2] == [("Pulling", 'Pulling image "busybox:1"'), ("Pulled", "took 2s")]
    assert pod.do(v.ImagesChanged(frozenset({"main"}))) == []


def test_missing_volumes_are_told_once_and_tried_again() -> None:
    pod = Script({"containers": [main()]})
    for _ in range(3):
        pod.do(v.VolumesFailed('configmap "x" not found'))
        assert pod.go(pod.at + 2.1)[-1][1] == "volumes"
    assert [tell.reason for tell in pod.told] == ["FailedMount"]


def test_a_pod_whose_sandbox_is_killed_begins_anew() -> None:
    pod = Script({"initContainers": [main("init")], "containers": [main()]})
    pod.ready()
    pod.started("init")
    pod.exited("init")
    pod.started("main")
    assert pod.do(v.SandboxGone()) == ["sandbox"]
    assert pod.do(v.SandboxReady("127.77.1.1")) == ["start init"]
    pod.started("init")
    assert pod.exited("init") == ["start main #1"]


def test_the_deadline_of_a_pod() -> None:
    pod = Script({"containers": [main()], "activeDeadlineSeconds": 5})
    pod.ready()
    pod.started("main")
    assert pod.go(6) == [(5.0, "term main")]
    pod.exited("main", 143)
    status = pod.status()
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_readiness_gates() -> None:
    pod = Script({"containers": [main()], "readinessGates": [{"conditionType": "example/ok"}]})
    pod.ready()
    pod.started("main")
    assert pod.condition("ContainersReady") == ("True", "")
    assert pod.condition("Ready") == ("False", "ReadinessGatesNotReady")
    pod.raw["status"]["conditions"].append({"type": "example/ok", "status": "True"})
    assert pod.condition("Ready") == ("True", "")
    assert "example/ok" in [row["type"] for row in pod.status()["conditions"]]


def test_restart_counts_of_an_earlier_node_go_on() -> None:
    pod = Script({"containers": [main()]}, main=4)
    assert "start main #4" in pod.ready()
    assert pod.row("main")["restartCount"] == 4


def test_times_of_conditions_change_with_their_status_only() -> None:
    pod = Script({"containers": [main()]})
    pod.ready()
    pod.started("main")
    before = {row["type"]: row["lastTransitionTime"] for row in pod.status()["conditions"]}
    pod.at = 100.0
    after = {row["type"]: row["lastTransitionTime"] for row in pod.status()["conditions"]}
    assert before == after


@given(st.lists(st.floats(0, 700), min_size=1, max_size=20))
def test_the_back_off_stays_in_its_bounds(lives: list[float]) -> None:
    backoff = RestartBackoff()
    now = 0.0
    for life in lives:
        finished = now + life
        now = backoff.waits_until(finished)
        assert 0 <= now - finished <= 300.001
        backoff.note_start(finished, now)
        assert 10 <= backoff.seconds <= 300


EVENTS: list[Any] = [
    v.VolumesReady(),
    v.VolumesFailed("x"),
    v.SandboxReady("127.77.1.1"),
    v.SandboxFailed("x"),
    v.SandboxGone(),
    *(v.Started(name) for name in ("init", "side", "main")),
    *(v.Exited(name, code) for name in ("init", "side", "main") for code in (0, 1)),
    *(v.StartFailed(name, "ErrImagePull", "x") for name in ("init", "side", "main")),
    *(v.Pulling(name) for name in ("init", "side", "main")),
    v.ImagesChanged(frozenset({"init", "main"})),
    v.Deleted(5),
    v.Tick(),
]


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.floats(0, 20)), max_size=40))
def test_no_order_of_events_breaks_the_machine(events: list[tuple[Any, float]]) -> None:
    pod = Script(
        {"initContainers": [main("init"), sidecar()], "containers": [main(readinessProbe=HTTP)]}
    )
    for event, pause in events:
        pod.do(event)
        assert pod.status()["phase"] in {"Pending", "Running", "Succeeded", "Failed"}
        pod.go(pod.at + pause)
    assert pod.log.count("finish") <= 1


def test_an_init_container_that_is_done_asks_for_no_tick() -> None:
    pod = Script({"initContainers": [main("init"), sidecar()], "containers": [main()]})
    pod.ready()
    pod.started("init")
    assert pod.exited("init") == ["start side"]
    assert pod.machine.next_at() is None
