"""DCR: the routes of the tasks, and how a task is chosen."""

from __future__ import annotations

import typing
from dataclasses import replace

import pytest

import shared.utils.config
from ccl.routing import JOINT_TASKS, ROUTES, Reads, Task, check_given, infer_task, parse_task
from shared.utils.errors import UserError


def test_every_task_has_a_route_and_the_configuration_knows_it():
    assert set(ROUTES) == set(Task)
    assert {str(task) for task in Task} == set(typing.get_args(shared.utils.config.Task))


@pytest.mark.parametrize("task", Task)
def test_a_noisy_stream_runs_and_a_clean_one_reads_context_tokens_at_most(task):
    route = task.route
    for reads, is_noisy in ((route.video, route.video_noisy), (route.audio, route.audio_noisy)):
        assert is_noisy or reads is not Reads.CROSS_MODAL
        assert not is_noisy or reads is not Reads.SKIPPED


@pytest.mark.parametrize("task", Task)
def test_unconditional_is_the_single_tower_state(task):
    alone = task.route.unconditional
    assert not alone.has_context and alone.unconditional == alone
    both = (Task.T2V, Task.T2A)
    singles = {Task.T2AV: both, Task.PART: both}.get(task, (Task.T2V if task.route.video_noisy else Task.T2A,))
    for single in singles:
        stream = "video" if single.route.video_noisy else "audio"
        assert getattr(alone, stream) is getattr(single.route, stream) is Reads.CONTEXT


def test_only_joint_tasks_have_context():
    assert {task for task in Task if task.route.has_context} == {Task.T2AV, Task.A2V, Task.V2A, Task.PART}
    assert set(Task) - set(JOINT_TASKS) == {Task.MTV, Task.PART}  # they need tracks


def test_without_dcr_both_streams_read_each_other_and_nothing_else_changes():
    for task in Task:
        if not task.route.has_context:
            with pytest.raises(UserError, match="knows no stream alone"):
                _ = task.route.joint
            continue
        assert (task.route.joint.video, task.route.joint.audio) == (Reads.CROSS_MODAL, Reads.CROSS_MODAL)
        assert replace(task.route.joint, video=task.route.video, audio=task.route.audio) == task.route


def test_auto_goes_by_what_is_given():
    assert infer_task(False, False) is Task.T2AV
    assert infer_task(True, False) is Task.A2V and infer_task(False, True) is Task.V2A
    with pytest.raises(UserError, match="nothing is left"):
        infer_task(True, True)


@pytest.mark.parametrize(
    ("task", "audio", "video", "image", "message"),
    [
        (Task.A2V, False, False, False, "needs the given audio"),
        (Task.V2A, False, False, False, "needs the given video"),
        (Task.T2AV, True, False, False, "does not read a given audio"),
        (Task.A2V, True, True, False, "does not read a given video"),
        (Task.V2A, False, True, True, "makes no video"),
        (Task.T2A, False, False, True, "makes no video"),
    ],
)
def test_what_is_given_must_fit_the_task(task, audio, video, image, message):
    with pytest.raises(UserError, match=message):
        check_given(task, audio, video, image)
    check_given(Task.T2AV, audio=False, video=False, image=True)
    check_given(Task.A2V, audio=True, video=False, image=True)


def test_a_given_track_is_what_task_part_has_and_no_other():
    with pytest.raises(UserError, match="task part needs a given track"):
        check_given(Task.PART, audio=False, video=False, image=False)
    with pytest.raises(UserError, match="task t2av has no use for a given track"):
        check_given(Task.T2AV, audio=False, video=False, image=False, part=True)
    with pytest.raises(UserError, match="task part does not read a given video"):
        check_given(Task.PART, audio=False, video=True, image=False, part=True)
    check_given(Task.PART, audio=False, video=False, image=True, part=True)


def test_an_unknown_task_is_refused_with_the_choices():
    assert parse_task("t2a") is Task.T2A
    with pytest.raises(UserError, match=r"'tv2'.*t2av"):
        parse_task("tv2")
