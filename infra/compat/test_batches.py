"""Batches: failures of one entry, and failures of the whole request."""

import hashlib

import pytest

SEND = "SendMessageBatchRequestEntry"


def entries(count, **more):
    return [{"Id": f"e{n}", "MessageBody": f"body-{n}", **more} for n in range(count)]


def failures(answer):
    return {failed["Id"]: failed["Code"] for failed in answer.get("Failed", [])}


def test_every_entry_is_answered_with_its_digest(queue):
    sent = queue.send_batch(*entries(10))
    assert {s["Id"] for s in sent["Successful"]} == {f"e{n}" for n in range(10)}
    assert all(s["MD5OfMessageBody"] == hashlib.md5(f"body-{s['Id'][1:]}".encode()).hexdigest() for s in sent["Successful"])
    assert queue.count() == 10


def test_a_bad_entry_fails_alone(queue):
    late = {"Id": "late", "MessageBody": "x", "DelaySeconds": 901}
    sent = queue.send_batch(*entries(2), late)
    assert failures(sent) == {"late": "InvalidParameterValue"} and sent["Failed"][0]["SenderFault"] is True
    assert len(sent["Successful"]) == 2 and queue.count() == 2


def test_a_bad_character_fails_alone(queue):
    sent = queue.send_batch(*entries(1), {"Id": "bad", "MessageBody": "\x00"})
    assert failures(sent) == {"bad": "InvalidMessageContents"} and len(sent["Successful"]) == 1


def test_a_bad_attribute_fails_alone(queue):
    bad = {"Id": "bad", "MessageBody": "x", "MessageAttributes": {"a": {"DataType": "Colour", "StringValue": "red"}}}
    sent = queue.send_batch(*entries(1), bad)
    assert failures(sent) == {"bad": "InvalidParameterValue"} and len(sent["Successful"]) == 1


def test_an_empty_batch_is_refused(queue, refused):
    refused("AWS.SimpleQueueService.EmptyBatchRequest", queue.send_batch)


def test_eleven_entries_are_refused(queue, refused):
    refused("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", queue.send_batch, *entries(11))


def test_an_id_twice_is_refused(queue, refused):
    refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", queue.send_batch, *entries(1), *entries(1))


@pytest.mark.parametrize("bad", ["", "a b", "a.b", "x" * 81], ids=["empty", "space", "dot", "81-letters"])
def test_a_malformed_id_is_refused(queue, refused, bad):
    refused("AWS.SimpleQueueService.InvalidBatchEntryId", queue.send_batch, {"Id": bad, "MessageBody": "x"})


def test_a_batch_of_1_mib_is_taken(queue):
    sent = queue.send_batch(*({"Id": str(n), "MessageBody": "x" * 524_288} for n in range(2)))
    assert len(sent["Successful"]) == 2


def test_a_batch_above_1_mib_is_refused(queue, refused):
    big = [{"Id": str(n), "MessageBody": "x" * 524_289} for n in range(2)]
    refused("AWS.SimpleQueueService.BatchRequestTooLong", queue.send_batch, *big)


def test_a_refused_batch_sends_nothing(queue, refused):
    refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", queue.send_batch, *entries(2), *entries(1))
    assert queue.count() == 0


def test_a_batch_of_deletes_fails_in_part(sqs, queue):
    queue.send()
    handle = queue.one()["ReceiptHandle"]
    both = [{"Id": "good", "ReceiptHandle": handle}, {"Id": "bad", "ReceiptHandle": "x"}]
    answer = sqs.delete_message_batch(QueueUrl=queue.url, Entries=both)
    assert [s["Id"] for s in answer["Successful"]] == ["good"]
    assert failures(answer) == {"bad": "ReceiptHandleIsInvalid"}


def test_an_empty_batch_of_deletes_is_refused(sqs, queue, refused):
    refused("AWS.SimpleQueueService.EmptyBatchRequest", sqs.delete_message_batch, QueueUrl=queue.url, Entries=[])


def test_an_id_twice_in_a_batch_of_deletes_is_refused(sqs, queue, refused):
    twice = [{"Id": "a", "ReceiptHandle": "x"}] * 2
    refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", sqs.delete_message_batch, QueueUrl=queue.url, Entries=twice)


def test_a_batch_of_visibility_changes_fails_in_part(sqs, queue):
    for _ in range(3):
        queue.send()
    held = [message["ReceiptHandle"] for message in queue.receive(3)]
    queue.delete({"ReceiptHandle": held[2]})
    change = [
        {"Id": "back", "ReceiptHandle": held[0], "VisibilityTimeout": 0},
        {"Id": "far", "ReceiptHandle": held[1], "VisibilityTimeout": 43_201},
        {"Id": "gone", "ReceiptHandle": held[2], "VisibilityTimeout": 10},
    ]
    answer = sqs.change_message_visibility_batch(QueueUrl=queue.url, Entries=change)
    assert [s["Id"] for s in answer["Successful"]] == ["back"]
    assert failures(answer) == {"far": "InvalidParameterValue", "gone": "InvalidParameterValue"}
    assert queue.count() == 1


def test_an_empty_batch_of_visibility_changes_is_refused(sqs, queue, refused):
    refused("AWS.SimpleQueueService.EmptyBatchRequest", sqs.change_message_visibility_batch, QueueUrl=queue.url, Entries=[])
