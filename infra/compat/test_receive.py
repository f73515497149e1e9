"""Receive, visibility and delete: guarantees for a receiver."""

import threading
import time

import pytest


def test_what_was_received_is_hidden(queue):
    queue.send()
    queue.one()
    assert queue.receive() == []
    assert (queue.count(), queue.count("NotVisible")) == (0, 1)


def test_what_is_not_deleted_comes_back(queue):
    queue.send()
    first = queue.one(VisibilityTimeout=1)
    again = queue.one(wait=10)
    assert again["MessageId"] == first["MessageId"] and again["ReceiptHandle"] != first["ReceiptHandle"]


def test_the_timeout_of_the_queue_holds(new_queue):
    queue = new_queue(VisibilityTimeout="1")
    queue.send()
    queue.one()
    assert queue.one(wait=10)["Attributes"]["ApproximateReceiveCount"] == "2"


def test_receives_are_counted_and_the_first_is_remembered(queue):
    queue.send()
    counts = [queue.one(VisibilityTimeout=0)["Attributes"] for _ in range(3)]
    assert [c["ApproximateReceiveCount"] for c in counts] == ["1", "2", "3"]
    assert len({c["ApproximateFirstReceiveTimestamp"] for c in counts}) == 1


def test_times_are_milliseconds(queue):
    before = time.time() * 1000
    queue.send()
    got = queue.one()["Attributes"]
    assert before - 2000 < int(got["SentTimestamp"]) <= int(got["ApproximateFirstReceiveTimestamp"]) < time.time() * 1000 + 2000


def test_the_sender_is_named(queue):
    queue.send()
    assert queue.one()["Attributes"]["SenderId"]


def test_single_system_attributes_can_be_asked_for(queue):
    queue.send()
    assert set(queue.one(MessageSystemAttributeNames=["SentTimestamp"])["Attributes"]) == {"SentTimestamp"}


def test_the_older_name_of_the_list_of_attributes_works(queue):
    queue.send()
    assert "SentTimestamp" in queue.one(MessageSystemAttributeNames=[], AttributeNames=["All"])["Attributes"]


def test_an_unknown_system_attribute_is_refused(queue, refused):
    refused("InvalidAttributeName", queue.receive, MessageSystemAttributeNames=["Colour"])


@pytest.mark.parametrize("most", [0, 11])
def test_one_to_ten_messages_can_be_asked_for(queue, refused, most):
    refused("InvalidParameterValue", queue.receive, most)


def test_a_wait_of_more_than_20_seconds_is_refused(queue, refused):
    refused("InvalidParameterValue", queue.receive, 1, 21)


def test_a_visibility_timeout_of_more_than_12_hours_is_refused(queue, refused):
    refused("InvalidParameterValue", queue.receive, VisibilityTimeout=43_201)


def test_no_more_than_asked_for_is_received(queue):
    queue.send_batch(*({"Id": str(n), "MessageBody": "x"} for n in range(5)))
    assert len(queue.receive(3)) <= 3


def test_a_long_poll_wakes_for_a_send(queue):
    sender = threading.Timer(0.3, queue.send)
    begun = time.monotonic()
    sender.start()
    assert queue.one(wait=20)
    assert time.monotonic() - begun < 5


def test_a_long_poll_wakes_for_a_message_that_becomes_visible(queue):
    queue.send()
    queue.one(VisibilityTimeout=1)
    begun = time.monotonic()
    assert queue.one(wait=20)
    assert time.monotonic() - begun < 6


def test_a_long_poll_ends_empty(queue):
    begun = time.monotonic()
    assert queue.receive(wait=1) == []
    assert 0.9 <= time.monotonic() - begun < 6


def test_the_wait_of_the_queue_holds(new_queue, sqs):
    queue = new_queue(ReceiveMessageWaitTimeSeconds="1")
    begun = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=queue.url)
    assert time.monotonic() - begun >= 0.9


def test_zero_gives_a_message_back(queue):
    queue.send()
    queue.hide(queue.one(), 0)
    assert queue.one()["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_longer_timeout_holds(queue):
    queue.send()
    message = queue.one(VisibilityTimeout=1)
    queue.hide(message, 60)
    assert queue.receive(wait=2) == []


def test_a_message_that_is_visible_cannot_be_hidden(queue, refused):
    queue.send()
    message = queue.one(VisibilityTimeout=0)
    refused("AWS.SimpleQueueService.MessageNotInflight", queue.hide, message, 10)


def test_a_message_given_back_cannot_be_hidden_again(queue, refused):
    queue.send()
    message = queue.one()
    queue.hide(message, 0)
    refused("AWS.SimpleQueueService.MessageNotInflight", queue.hide, message, 10)


def test_a_deleted_message_cannot_be_hidden(queue, refused):
    queue.send()
    message = queue.one()
    queue.delete(message)
    refused("InvalidParameterValue", queue.hide, message, 10)


def test_a_message_is_not_hidden_for_more_than_12_hours_in_all(queue, refused, until):
    queue.send()
    message = queue.one()
    received = time.monotonic()
    until(lambda: time.monotonic() - received > 1.1, "a second")
    refused("InvalidParameterValue", queue.hide, message, 43_200)


@pytest.mark.parametrize("seconds", [-1, 43_201])
def test_a_timeout_out_of_range_is_refused(queue, refused, seconds):
    queue.send()
    refused("InvalidParameterValue", queue.hide, queue.one(), seconds)


def test_a_deleted_message_does_not_come_back(queue):
    queue.send()
    queue.delete(queue.one(VisibilityTimeout=1))
    assert queue.receive(wait=2) == []
    assert queue.count("NotVisible") == 0


def test_a_handle_deleted_twice_is_no_error(queue):
    queue.send()
    message = queue.one()
    queue.delete(message)
    queue.delete(message)


def test_a_handle_of_an_earlier_receive_is_no_error_to_delete(queue):
    queue.send()
    first = queue.one(VisibilityTimeout=0)
    queue.one()
    queue.delete(first)


@pytest.mark.parametrize("handle", ["x", "not a handle", "AQEB"])
def test_what_is_no_handle_is_refused(queue, refused, handle):
    refused("ReceiptHandleIsInvalid", queue.delete, {"ReceiptHandle": handle})


def test_a_handle_of_another_queue_is_refused(queue, new_queue, refused):
    queue.send()
    refused({"ReceiptHandleIsInvalid", "InvalidParameterValue"}, new_queue().delete, queue.one())
