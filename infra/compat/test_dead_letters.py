"""Dead letters, and the tasks that move them back."""

import base64
import json

import pytest


def give_up(queue, dlq, until, *bodies):
    """Sends messages and has them given up after their one receive."""
    for body in bodies:
        queue.send(body)
    for _ in bodies:
        queue.one(VisibilityTimeout=0)
    until(lambda: queue.receive() or dlq.count() == len(bodies), "the dead letters")


def tasks(sqs, dlq, most=10):
    return sqs.list_message_move_tasks(SourceArn=dlq.arn, MaxResults=most)["Results"]


def finished(sqs, dlq, until):
    return until(lambda: [t for t in tasks(sqs, dlq) if t["Status"] not in ("RUNNING", "CANCELLING")], "the end of the task")[0]


def test_a_message_received_too_often_is_given_up(dead_letters, until):
    queue, dlq = dead_letters(2)
    sent = queue.send("lost")
    assert [queue.one(VisibilityTimeout=0)["Attributes"]["ApproximateReceiveCount"] for _ in range(2)] == ["1", "2"]
    assert queue.receive() == []
    assert dlq.one()["MessageId"] == sent["MessageId"] and queue.count() == 0


def test_a_dead_letter_names_its_queue_and_goes_on_counting(dead_letters, until):
    queue, dlq = dead_letters(2)
    queue.send()
    sent = [queue.one(VisibilityTimeout=0)["Attributes"]["SentTimestamp"] for _ in range(2)][0]
    assert queue.receive() == []
    got = dlq.one()["Attributes"]
    assert (got["DeadLetterQueueSourceArn"], got["ApproximateReceiveCount"], got["SentTimestamp"]) == (queue.arn, "3", sent)


def test_a_message_that_expired_too_often_is_given_up(dead_letters, until):
    queue, dlq = dead_letters(1)
    queue.send()
    queue.one(VisibilityTimeout=1)
    until(lambda: not queue.receive() and dlq.receive(), "the dead letter")


def test_dead_letters_are_moved_back_to_their_queue(sqs, dead_letters, until):
    queue, dlq = dead_letters()
    give_up(queue, dlq, until, "a", "b")
    assert sqs.start_message_move_task(SourceArn=dlq.arn)["TaskHandle"]
    task = finished(sqs, dlq, until)
    assert task["Status"] == "COMPLETED"
    assert (task["SourceArn"], task["ApproximateNumberOfMessagesMoved"], task["ApproximateNumberOfMessagesToMove"]) == (dlq.arn, 2, 2)
    assert "TaskHandle" not in task and "DestinationArn" not in task and task["StartedTimestamp"] > 1_500_000_000_000
    assert queue.count() == 2 and dlq.count() == 0


def test_a_moved_message_is_a_new_message(sqs, dead_letters, until):
    queue, dlq = dead_letters()
    give_up(queue, dlq, until, "a")
    (before,) = dlq.receive(VisibilityTimeout=0)
    sqs.start_message_move_task(SourceArn=dlq.arn)
    after = queue.one(wait=10)
    assert after["Body"] == "a" and after["MessageId"] != before["MessageId"]
    assert after["Attributes"]["ApproximateReceiveCount"] == "1" and "DeadLetterQueueSourceArn" not in after["Attributes"]


def test_dead_letters_are_moved_to_another_queue(sqs, dead_letters, new_queue, until):
    queue, dlq = dead_letters()
    other = new_queue()
    dlq.send("sent to the dead letters by hand")
    sqs.start_message_move_task(SourceArn=dlq.arn, DestinationArn=other.arn)
    assert other.one(wait=10)["Body"] == "sent to the dead letters by hand"
    assert finished(sqs, dlq, until)["DestinationArn"] == other.arn


def test_a_message_that_no_queue_gave_up_fails_the_task(sqs, dead_letters, until):
    queue, dlq = dead_letters()
    dlq.send()
    sqs.start_message_move_task(SourceArn=dlq.arn)
    task = finished(sqs, dlq, until)
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert dlq.count() == 1


def test_a_slow_task_keeps_its_rate_runs_alone_and_can_be_cancelled(sqs, dead_letters, refused, until):
    queue, dlq = dead_letters()
    for _ in range(5):
        dlq.send()
    start = lambda: sqs.start_message_move_task(SourceArn=dlq.arn, DestinationArn=queue.arn, MaxNumberOfMessagesPerSecond=1)
    handle = start()["TaskHandle"]
    refused("InvalidParameterValue", start)
    (running,) = tasks(sqs, dlq)
    assert (running["Status"], running["TaskHandle"], running["MaxNumberOfMessagesPerSecond"]) == ("RUNNING", handle, 1)
    assert sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"] < 5
    assert finished(sqs, dlq, until)["Status"] == "CANCELLED"
    assert dlq.count() >= 3


def test_a_cancelled_task_cannot_be_cancelled(sqs, dead_letters, refused):
    queue, dlq = dead_letters()
    for _ in range(3):
        dlq.send()
    handle = sqs.start_message_move_task(SourceArn=dlq.arn, DestinationArn=queue.arn, MaxNumberOfMessagesPerSecond=1)["TaskHandle"]
    sqs.cancel_message_move_task(TaskHandle=handle)
    refused({"AWS.SimpleQueueService.UnsupportedOperation", "InvalidParameterValue"}, sqs.cancel_message_move_task, TaskHandle=handle)


def test_a_queue_that_is_nobodys_dead_letter_queue_moves_nothing(sqs, queue, new_queue, refused):
    refused("InvalidParameterValue", sqs.start_message_move_task, SourceArn=queue.arn, DestinationArn=new_queue().arn)


def test_source_and_destination_differ(sqs, dead_letters, refused):
    _, dlq = dead_letters()
    refused("InvalidParameterValue", sqs.start_message_move_task, SourceArn=dlq.arn, DestinationArn=dlq.arn)


@pytest.mark.parametrize("rate", [0, 501])
def test_the_rate_of_a_task_is_1_to_500(sqs, dead_letters, refused, rate):
    _, dlq = dead_letters()
    refused("InvalidParameterValue", sqs.start_message_move_task, SourceArn=dlq.arn, MaxNumberOfMessagesPerSecond=rate)


@pytest.mark.parametrize("parameter", ["SourceArn", "DestinationArn"])
def test_a_task_needs_queues_that_are_there(sqs, dead_letters, refused, parameter):
    _, dlq = dead_letters()
    arns = {"SourceArn": dlq.arn, parameter: dlq.arn.rsplit(":", 1)[0] + ":nowhere"}
    refused("ResourceNotFoundException", sqs.start_message_move_task, **arns)


def test_a_handle_of_no_task_is_refused(sqs, dead_letters, refused):
    _, dlq = dead_letters()
    refused("InvalidParameterValue", sqs.cancel_message_move_task, TaskHandle="x")
    unknown = {"taskId": "10f57157-fc38-4da9-a113-4de7e12d05dd", "sourceArn": dlq.arn}
    handle = base64.b64encode(json.dumps(unknown).encode()).decode()
    refused("ResourceNotFoundException", sqs.cancel_message_move_task, TaskHandle=handle)


def test_the_latest_task_is_listed_first(sqs, dead_letters, until):
    queue, dlq = dead_letters()
    for rate in (5, 6):
        sqs.start_message_move_task(SourceArn=dlq.arn, MaxNumberOfMessagesPerSecond=rate)
        finished(sqs, dlq, until)
        until(lambda: all(t["Status"] == "COMPLETED" for t in tasks(sqs, dlq)), "the end of the task")
    assert [t["MaxNumberOfMessagesPerSecond"] for t in tasks(sqs, dlq)] == [6, 5]
    assert len(sqs.list_message_move_tasks(SourceArn=dlq.arn)["Results"]) == 1
