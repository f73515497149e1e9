"""FIFO queues: order, groups, deduplication."""

import hashlib
import json
import threading

import pytest


def put(fifo, body, group="g", dedup=None):
    return fifo.send(body, MessageGroupId=group, MessageDeduplicationId=dedup or f"{group}-{body}")


def test_a_fifo_queue_shows_what_it_is(fifo):
    shown = fifo.attributes()
    wanted = {"FifoQueue": "true", "ContentBasedDeduplication": "false", "DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"}
    assert {name: shown.get(name) for name in wanted} == wanted


def test_the_name_of_a_fifo_queue_ends_in_fifo(sqs, refused):
    refused("InvalidParameterValue", sqs.create_queue, QueueName="not-so", Attributes={"FifoQueue": "true"})


def test_the_name_of_a_standard_queue_does_not_end_in_fifo(sqs, refused):
    refused("InvalidParameterValue", sqs.create_queue, QueueName="not-so.fifo")


def test_a_standard_queue_knows_no_fifo_attributes(queue, refused):
    refused("InvalidAttributeName", queue.set, ContentBasedDeduplication="true")


def test_the_type_of_a_queue_does_not_change(fifo, refused):
    refused({"InvalidAttributeValue", "InvalidAttributeName"}, fifo.set, FifoQueue="false")


def test_throughput_by_group_needs_deduplication_by_group(fifo, refused):
    refused({"InvalidAttributeValue", "InvalidParameterValue"}, fifo.set, FifoThroughputLimit="perMessageGroupId")
    fifo.set(FifoThroughputLimit="perMessageGroupId", DeduplicationScope="messageGroup")


def test_messages_of_a_group_come_in_their_order(fifo):
    for n in range(10):
        put(fifo, str(n))
    assert fifo.bodies() == [str(n) for n in range(10)]


def test_sequence_numbers_grow(fifo):
    sent = [put(fifo, str(n))["SequenceNumber"] for n in range(10)]
    assert all(number.isdigit() for number in sent) and sorted(sent, key=int) == sent and len(set(sent)) == 10
    assert [m["Attributes"]["SequenceNumber"] for m in fifo.receive()] == sent


def test_group_and_deduplication_id_are_given_back(fifo):
    put(fifo, "x", "tenant", "id-1")
    got = fifo.one()["Attributes"]
    assert (got["MessageGroupId"], got["MessageDeduplicationId"]) == ("tenant", "id-1")


def test_a_message_in_flight_holds_its_group_back(fifo):
    put(fifo, "a1", "a"), put(fifo, "a2", "a"), put(fifo, "b1", "b")
    first = fifo.one()
    assert first["Body"] == "a1"
    assert fifo.bodies() == ["b1"]
    fifo.delete(first)
    assert fifo.bodies() == ["a2"]


def test_a_message_given_back_comes_before_those_behind_it(fifo):
    put(fifo, "1"), put(fifo, "2")
    fifo.hide(fifo.one(), 0)
    assert fifo.bodies() == ["1", "2"]


def test_a_message_whose_timeout_is_over_comes_before_those_behind_it(fifo):
    put(fifo, "1"), put(fifo, "2")
    fifo.one(VisibilityTimeout=1)
    assert fifo.receive() == []
    assert [m["Body"] for m in fifo.receive(wait=10)] == ["1", "2"]


def test_a_long_poll_wakes_when_a_group_becomes_free(fifo):
    put(fifo, "1"), put(fifo, "2")
    threading.Timer(0.3, fifo.delete, [fifo.one()]).start()
    assert fifo.one(wait=5)["Body"] == "2"


def test_a_repeated_deduplication_id_stores_nothing(fifo):
    first, again = put(fifo, "x", dedup="same"), put(fifo, "y", dedup="same")
    assert (first["MessageId"], first["SequenceNumber"]) == (again["MessageId"], again["SequenceNumber"])
    assert fifo.bodies() == ["x"]


def test_a_deduplication_id_outlives_its_message(fifo):
    put(fifo, "x", dedup="same")
    fifo.delete(fifo.one())
    put(fifo, "x", dedup="same")
    assert fifo.receive(wait=1) == []


def test_deduplication_works_within_a_batch(fifo):
    twice = [{"Id": i, "MessageBody": i, "MessageGroupId": "g", "MessageDeduplicationId": "same"} for i in "ab"]
    assert len(fifo.send_batch(*twice)["Successful"]) == 2
    assert fifo.bodies() == ["a"]


def test_another_group_does_not_make_another_message(fifo):
    put(fifo, "x", "a", "same"), put(fifo, "y", "b", "same")
    assert fifo.bodies() == ["x"]


def test_deduplication_by_group_makes_it_another_message(new_queue):
    fifo = new_queue(FifoQueue="true", DeduplicationScope="messageGroup")
    put(fifo, "x", "a", "same"), put(fifo, "y", "b", "same")
    assert sorted(fifo.bodies()) == ["x", "y"]


def test_deduplication_by_content_takes_the_sha256_of_the_body(new_queue):
    fifo = new_queue(FifoQueue="true", ContentBasedDeduplication="true")
    for body in ("x", "x", "y"):
        fifo.send(body, MessageGroupId="g")
    got = fifo.receive()
    assert [m["Body"] for m in got] == ["x", "y"]
    assert got[0]["Attributes"]["MessageDeduplicationId"] == hashlib.sha256(b"x").hexdigest()


def test_a_message_without_a_group_is_refused(fifo, refused):
    refused("MissingParameter", fifo.send, MessageDeduplicationId="1")


def test_a_message_without_a_deduplication_id_is_refused(fifo, refused):
    refused("InvalidParameterValue", fifo.send, MessageGroupId="g")


def test_a_message_without_a_group_fails_alone_in_a_batch(fifo):
    good = {"Id": "good", "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "1"}
    sent = fifo.send_batch(good, {"Id": "bad", "MessageBody": "x", "MessageDeduplicationId": "2"})
    assert [s["Id"] for s in sent["Successful"]] == ["good"]
    assert [(f["Id"], f["Code"]) for f in sent["Failed"]] == [("bad", "MissingParameter")]


def test_a_delay_of_a_single_message_is_refused(fifo, refused):
    refused("InvalidParameterValue", fifo.send, MessageGroupId="g", MessageDeduplicationId="1", DelaySeconds=1)


@pytest.mark.parametrize("bad", ["a b", "x" * 129], ids=["space", "129-letters"])
def test_a_malformed_deduplication_id_is_refused(fifo, refused, bad):
    refused("InvalidParameterValue", put, fifo, "x", dedup=bad)


def test_a_receive_attempt_id_is_taken(fifo):
    put(fifo, "x")
    assert fifo.one(ReceiveRequestAttemptId="attempt-1")["Body"] == "x"


def test_a_handle_whose_timeout_is_over_deletes_nothing(fifo, refused):
    put(fifo, "x")
    refused("InvalidParameterValue", fifo.delete, fifo.one(VisibilityTimeout=0))
    assert fifo.count() == 1


def test_the_dead_letter_queue_of_a_fifo_queue_is_fifo(queue, fifo, refused):
    policy = json.dumps({"deadLetterTargetArn": queue.arn, "maxReceiveCount": 1})
    refused("InvalidParameterValue", fifo.set, RedrivePolicy=policy)


def test_the_dead_letter_queue_of_a_standard_queue_is_not_fifo(queue, fifo, refused):
    policy = json.dumps({"deadLetterTargetArn": fifo.arn, "maxReceiveCount": 1})
    refused("InvalidParameterValue", queue.set, RedrivePolicy=policy)


def test_a_group_goes_on_behind_a_dead_letter(dead_letters):
    fifo, dlq = dead_letters(1, FifoQueue="true")
    put(fifo, "1"), put(fifo, "2")
    fifo.one(VisibilityTimeout=0)
    assert fifo.bodies() == ["2"]
    got = dlq.one()
    assert (got["Body"], got["Attributes"]["MessageGroupId"]) == ("1", "g")


def test_a_task_does_not_move_between_queues_of_two_types(sqs, queue, dead_letters, refused):
    _, dlq = dead_letters(1, FifoQueue="true")
    refused("InvalidParameterValue", sqs.start_message_move_task, SourceArn=dlq.arn, DestinationArn=queue.arn)
