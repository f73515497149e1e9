"""Send of one message: digests, attributes, refused requests."""

import hashlib
import struct
import time

import pytest

ALL_TYPES = {
    "text": {"DataType": "String", "StringValue": "hällo"},
    "number.int": {"DataType": "Number.int", "StringValue": "-12.5"},
    "picture": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff\x01"},
}
TRACE = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}


def digest(attributes):
    """Developer guide, "Calculating the MD5 message digest for message attributes"."""
    part = lambda data: struct.pack("!I", len(data)) + data
    md5 = hashlib.md5()
    for name, value in sorted(attributes.items()):
        md5.update(part(name.encode()) + part(value["DataType"].encode()))
        if "BinaryValue" in value:
            md5.update(b"\x02" + part(value["BinaryValue"]))
        else:
            md5.update(b"\x01" + part(value["StringValue"].encode()))
    return md5.hexdigest()


def test_a_send_answers_with_the_digest_of_the_body(queue):
    sent = queue.send("hällo 🎈")
    assert sent["MD5OfMessageBody"] == hashlib.md5("hällo 🎈".encode()).hexdigest()
    assert "MD5OfMessageAttributes" not in sent
    assert queue.one()["MessageId"] == sent["MessageId"]


def test_a_send_answers_with_the_digest_of_the_attributes(queue):
    assert queue.send(MessageAttributes=ALL_TYPES)["MD5OfMessageAttributes"] == digest(ALL_TYPES)


def test_a_send_answers_with_the_digest_of_the_system_attributes(queue):
    assert queue.send(MessageSystemAttributes=TRACE)["MD5OfMessageSystemAttributes"] == digest(TRACE)


def test_a_receive_answers_with_the_digest_of_the_attributes(queue):
    queue.send(MessageAttributes=ALL_TYPES)
    got = queue.one()
    assert got["MessageAttributes"] == ALL_TYPES
    assert got["MD5OfMessageAttributes"] == digest(ALL_TYPES)


def test_a_receive_of_some_attributes_answers_with_the_digest_of_these(queue):
    queue.send(MessageAttributes=ALL_TYPES)
    got = queue.one(MessageAttributeNames=["text"])
    assert set(got["MessageAttributes"]) == {"text"}
    assert got["MD5OfMessageAttributes"] == digest({"text": ALL_TYPES["text"]})


def test_attributes_are_chosen_by_prefix(queue):
    queue.send(MessageAttributes=ALL_TYPES)
    assert set(queue.one(MessageAttributeNames=["number.*"])["MessageAttributes"]) == {"number.int"}


def test_no_attributes_are_given_to_whom_did_not_ask(queue):
    queue.send(MessageAttributes=ALL_TYPES)
    got = queue.one(MessageAttributeNames=[], MessageSystemAttributeNames=[])
    assert not {"MessageAttributes", "MD5OfMessageAttributes", "Attributes"} & set(got)


def test_a_trace_header_is_given_back(queue):
    queue.send(MessageSystemAttributes=TRACE)
    assert queue.one()["Attributes"]["AWSTraceHeader"] == TRACE["AWSTraceHeader"]["StringValue"]


def test_another_system_attribute_is_refused(queue, refused):
    other = {"Colour": {"DataType": "String", "StringValue": "red"}}
    refused("InvalidParameterValue", queue.send, MessageSystemAttributes=other)


def test_a_group_on_a_standard_queue_is_kept(queue):
    queue.send(MessageGroupId="tenant-1")
    assert queue.one()["Attributes"]["MessageGroupId"] == "tenant-1"


def test_a_group_on_a_standard_queue_holds_nothing_back(queue):
    for body in "ab":
        queue.send(body, MessageGroupId="tenant-1")
    assert queue.one() and queue.one()


def test_a_deduplication_id_on_a_standard_queue_is_refused(queue, refused):
    refused("InvalidParameterValue", queue.send, MessageDeduplicationId="1")


def test_a_group_on_a_standard_queue_has_no_spaces(queue, refused):
    refused("InvalidParameterValue", queue.send, MessageGroupId="a b")


@pytest.mark.parametrize("body", ["\x00", "a\x0bb", "\ufffe"], ids=["nul", "vertical-tab", "fffe"])
def test_characters_outside_of_xml_are_refused(queue, refused, body):
    refused("InvalidMessageContents", queue.send, body)


def test_tabs_newlines_and_every_plane_come_through(queue):
    body = "\t\n\r \ud7ff\ue000\ufffd\U0001f388\U0010ffff"
    queue.send(body)
    assert queue.one()["Body"] == body


def test_an_empty_body_is_refused(queue, refused):
    refused({"MissingParameter", "InvalidParameterValue"}, queue.send, "")


def test_ten_attributes_are_taken(queue):
    queue.send(MessageAttributes={f"a{n}": ALL_TYPES["text"] for n in range(10)})
    assert len(queue.one()["MessageAttributes"]) == 10


def test_eleven_attributes_are_refused(queue, refused):
    refused("InvalidParameterValue", queue.send, MessageAttributes={f"a{n}": ALL_TYPES["text"] for n in range(11)})


@pytest.mark.parametrize("name", ["AWS.mine", "amazon.mine", ".first", "last.", "two..dots", "sp ace", "x" * 257])
def test_a_reserved_or_malformed_attribute_name_is_refused(queue, refused, name):
    refused("InvalidParameterValue", queue.send, MessageAttributes={name: ALL_TYPES["text"]})


@pytest.mark.parametrize(
    "value",
    [
        {"DataType": "String", "StringValue": ""},
        {"DataType": "Number", "StringValue": "many"},
        {"DataType": "Colour", "StringValue": "red"},
    ],
    ids=["empty", "not-a-number", "unknown-type"],
)
def test_a_malformed_attribute_value_is_refused(queue, refused, value):
    refused("InvalidParameterValue", queue.send, MessageAttributes={"a": value})


def test_a_message_of_1_mib_is_taken(queue):
    queue.send("x" * 1_048_576)
    assert len(queue.one()["Body"]) == 1_048_576


def test_a_message_above_1_mib_is_refused(queue, refused):
    refused("InvalidParameterValue", queue.send, "x" * 1_048_577)


def test_attributes_count_as_part_of_the_size(queue, refused):
    refused("InvalidParameterValue", queue.send, "x" * 1_048_576, MessageAttributes={"a": ALL_TYPES["text"]})


def test_a_queue_may_take_less(new_queue, refused):
    small = new_queue(MaximumMessageSize="1024")
    small.send("x" * 1024)
    refused("InvalidParameterValue", small.send, "x" * 1025)


def test_a_delayed_message_comes_late(queue):
    begun = time.monotonic()
    queue.send(DelaySeconds=1)
    assert queue.receive() == []
    assert queue.count("Delayed") == 1
    assert queue.one(wait=10) and time.monotonic() - begun >= 0.95


def test_the_delay_of_a_queue_holds_for_its_messages_and_zero_overrides_it(new_queue):
    late = new_queue(DelaySeconds="900")
    late.send("late")
    late.send("now", DelaySeconds=0)
    assert late.bodies() == ["now"]
    assert late.count("Delayed") == 1


def test_a_delay_of_more_than_900_seconds_is_refused(queue, refused):
    refused("InvalidParameterValue", queue.send, DelaySeconds=901)


def test_nothing_can_be_sent_to_a_queue_that_is_not_there(sqs, queue, refused):
    url = queue.url.rsplit("/", 1)[0] + "/nowhere"
    refused("AWS.SimpleQueueService.NonExistentQueue", sqs.send_message, QueueUrl=url, MessageBody="x")


def test_the_typed_error_of_a_queue_that_is_not_there_is_raised(sqs, queue):
    with pytest.raises(sqs.exceptions.QueueDoesNotExist):
        sqs.send_message(QueueUrl=queue.url.rsplit("/", 1)[0] + "/nowhere", MessageBody="x")
