"""Queues: attributes, tags, listing, purging."""

import json

import pytest

NO_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"


def test_a_queue_has_the_documented_defaults(queue):
    shown = queue.attributes()
    wanted = {
        "VisibilityTimeout": "30", "MessageRetentionPeriod": "345600", "DelaySeconds": "0", "ReceiveMessageWaitTimeSeconds": "0",
        "MaximumMessageSize": "1048576", "SqsManagedSseEnabled": "true", "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0",
    }
    assert {name: shown.get(name) for name in wanted} == wanted


def test_a_queue_is_created_twice_without_harm(queue, new_queue):
    assert new_queue(queue.name).url == queue.url


def test_a_queue_with_other_attributes_exists_already(queue, new_queue, refused):
    refused("QueueAlreadyExists", new_queue, queue.name, VisibilityTimeout="31")


@pytest.mark.parametrize("name", ["", "a b", "a.b", "x" * 81], ids=["empty", "space", "dot", "81-letters"])
def test_a_malformed_name_is_refused(new_queue, refused, sqs, name):
    refused({"InvalidParameterValue", "MissingParameter"}, sqs.create_queue, QueueName=name)


@pytest.mark.parametrize(
    "name, value",
    [
        ("VisibilityTimeout", "43201"), ("VisibilityTimeout", "soon"),
        ("MessageRetentionPeriod", "59"), ("MessageRetentionPeriod", "1209601"),
        ("DelaySeconds", "901"), ("MaximumMessageSize", "1023"), ("MaximumMessageSize", "1048577"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
        ("KmsDataKeyReusePeriodSeconds", "59"), ("Policy", "no json"), ("SqsManagedSseEnabled", "maybe"),
    ],
)
def test_an_attribute_out_of_range_is_refused(queue, refused, name, value):
    refused("InvalidAttributeValue", queue.set, **{name: value})


def test_an_unknown_attribute_is_refused(queue, refused):
    refused("InvalidAttributeName", queue.set, Colour="red")


def test_an_unknown_attribute_cannot_be_asked_for(queue, refused):
    refused("InvalidAttributeName", queue.attributes, "Colour")


def test_attributes_are_set_and_shown(queue):
    queue.set(VisibilityTimeout="7", MessageRetentionPeriod="60")
    assert queue.attributes("VisibilityTimeout", "MessageRetentionPeriod") == {"VisibilityTimeout": "7", "MessageRetentionPeriod": "60"}


def test_a_policy_is_kept(queue):
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": queue.arn}]}
    queue.set(Policy=json.dumps(policy))
    assert json.loads(queue.attributes("Policy")["Policy"]) == policy
    queue.set(Policy="")
    assert "Policy" not in queue.attributes("Policy")


def test_a_kms_key_takes_the_place_of_the_managed_key(new_queue):
    queue = new_queue(KmsMasterKeyId="alias/aws/sqs", KmsDataKeyReusePeriodSeconds="60")
    shown = queue.attributes("KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds")
    assert shown == {"KmsMasterKeyId": "alias/aws/sqs", "KmsDataKeyReusePeriodSeconds": "60"}


def test_the_dead_letter_queue_must_exist(queue, refused):
    policy = json.dumps({"deadLetterTargetArn": queue.arn.rsplit(":", 1)[0] + ":nowhere", "maxReceiveCount": 1})
    refused("InvalidParameterValue", queue.set, RedrivePolicy=policy)


@pytest.mark.parametrize("policy", ["no json", '{"maxReceiveCount":1}', "zero"])
def test_a_malformed_redrive_policy_is_refused(queue, new_queue, refused, policy):
    if policy == "zero":
        policy = json.dumps({"deadLetterTargetArn": new_queue().arn, "maxReceiveCount": 0})
    refused({"InvalidParameterValue", "InvalidAttributeValue"}, queue.set, RedrivePolicy=policy)


def test_a_redrive_allow_policy_keeps_others_out(queue, new_queue, refused):
    closed = new_queue(RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    policy = json.dumps({"deadLetterTargetArn": closed.arn, "maxReceiveCount": 1})
    refused("InvalidParameterValue", queue.set, RedrivePolicy=policy)


def test_tags_are_added_shown_and_taken_away(sqs, new_queue):
    queue = new_queue(tags={"team": "a", "stage": "test"})
    sqs.tag_queue(QueueUrl=queue.url, Tags={"team": "b", "cost": "1"})
    sqs.untag_queue(QueueUrl=queue.url, TagKeys=["stage"])
    assert sqs.list_queue_tags(QueueUrl=queue.url)["Tags"] == {"team": "b", "cost": "1"}


def test_a_queue_without_tags_shows_none(sqs, queue):
    assert not sqs.list_queue_tags(QueueUrl=queue.url).get("Tags")


def test_a_url_is_found_by_name(sqs, queue):
    assert sqs.get_queue_url(QueueName=queue.name)["QueueUrl"] == queue.url


def test_queues_are_listed_by_prefix(sqs, new_queue):
    made = {new_queue(f"listed-{n}").url for n in range(3)}
    assert set(sqs.list_queues(QueueNamePrefix="listed-")["QueueUrls"]) == made


def test_queues_are_listed_in_pages(sqs, new_queue):
    made = {new_queue(f"paged-{n}").url for n in range(3)}
    pages = list(sqs.get_paginator("list_queues").paginate(QueueNamePrefix="paged-", PaginationConfig={"PageSize": 2}))
    assert [len(page["QueueUrls"]) for page in pages] == [2, 1]
    assert {url for page in pages for url in page["QueueUrls"]} == made


def test_a_page_has_one_to_1000_queues(sqs, refused):
    refused("InvalidParameterValue", sqs.list_queues, MaxResults=1001)


def test_a_purge_forgets_every_message(sqs, queue):
    for delay in (0, 0, 900):
        queue.send(DelaySeconds=delay)
    queue.one()
    sqs.purge_queue(QueueUrl=queue.url)
    assert (queue.count(), queue.count("NotVisible"), queue.count("Delayed")) == (0, 0, 0)


def test_a_deleted_queue_is_gone(sqs, queue, refused):
    sqs.delete_queue(QueueUrl=queue.url)
    refused(NO_QUEUE, queue.attributes)
    refused(NO_QUEUE, queue.receive)
    refused(NO_QUEUE, sqs.get_queue_url, QueueName=queue.name)


def test_the_sources_of_a_dead_letter_queue_are_listed(sqs, dead_letters):
    source, dlq = dead_letters()
    assert sqs.list_dead_letter_source_queues(QueueUrl=dlq.url)["queueUrls"] == [source.url]
