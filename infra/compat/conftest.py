"""Fixtures of every test: one running target, a client for it, and queues for this test only.

Invariant: a failure that is not listed fails the run, and a listed failure that does not happen fails it too.
"""

import itertools
import json
import time

import boto3
import botocore.config
import botocore.exceptions
import pytest

import differences
import targets

GIVE_UP_S = 15
numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--target", choices=targets.TARGETS, default="ours", help="the endpoints to probe")


def pytest_report_header(config):
    return f"target: {config.getoption('--target')}"


def pytest_collection_modifyitems(config, items):
    expected = differences.expected(config.getoption("--target"))
    used = set()
    for item in items:
        for test in {item.nodeid, item.nodeid.split("[")[0]} & set(expected):
            used.add(test)
            item.add_marker(pytest.mark.xfail(reason=expected[test], strict=True))
    whole_suite = not config.option.keyword and not any("::" in arg or arg.endswith(".py") for arg in config.args)
    if whole_suite and used != set(expected):
        raise pytest.UsageError(f"differences.toml names tests that do not exist: {sorted(set(expected) - used)}")


@pytest.fixture(scope="session")
def endpoint(request):
    port = targets.free_port()
    with targets.TARGETS[request.config.getoption("--target")](port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def sqs(endpoint):
    config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=30)
    return boto3.client(
        "sqs", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test", config=config
    )


class Queue:
    """A queue by its short operations."""

    def __init__(self, sqs, url):
        self.sqs, self.url, self.name = sqs, url, url.rsplit("/", 1)[1]

    @property
    def arn(self):
        return self.attributes("QueueArn")["QueueArn"]

    def attributes(self, *names):
        return self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=list(names) or ["All"]).get("Attributes", {})

    def count(self, state=""):
        """Visible messages; those in flight with state `NotVisible`, those delayed with `Delayed`."""
        name = f"ApproximateNumberOfMessages{state}"
        return int(self.attributes(name)[name])

    def set(self, **attributes):
        return self.sqs.set_queue_attributes(QueueUrl=self.url, Attributes=attributes)

    def send(self, body="x", **more):
        return self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **more)

    def send_batch(self, *entries):
        return self.sqs.send_message_batch(QueueUrl=self.url, Entries=list(entries))

    def receive(self, most=10, wait=0, **more):
        more.setdefault("MessageSystemAttributeNames", ["All"])
        more.setdefault("MessageAttributeNames", ["All"])
        return self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=most, WaitTimeSeconds=wait, **more).get("Messages", [])

    def one(self, wait=5, **more):
        (message,) = self.receive(1, wait, **more)
        return message

    def bodies(self, most=10, **more):
        return [message["Body"] for message in self.receive(most, **more)]

    def delete(self, message):
        return self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def hide(self, message, seconds):
        return self.sqs.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )


@pytest.fixture
def new_queue(sqs):
    """Makes queues; keyword arguments are attributes."""
    made = []

    def make(name=None, tags=None, **attributes):
        suffix = ".fifo" if attributes.get("FifoQueue") == "true" else ""
        name = name or f"compat-{next(numbers)}{suffix}"
        url = sqs.create_queue(QueueName=name, Attributes=attributes, **({"tags": tags} if tags else {}))["QueueUrl"]
        made.append(Queue(sqs, url))
        return made[-1]

    yield make
    for queue in made:
        try:
            sqs.delete_queue(QueueUrl=queue.url)
        except botocore.exceptions.ClientError:
            pass  # The test deleted it.


@pytest.fixture
def queue(new_queue):
    return new_queue()


@pytest.fixture
def fifo(new_queue):
    return new_queue(FifoQueue="true")


@pytest.fixture
def dead_letters(new_queue):
    """Makes a queue that gives up after `count` receives, and its dead-letter queue."""

    def make(count=1, **attributes):
        kind = {"FifoQueue": "true"} if attributes.get("FifoQueue") else {}
        dlq = new_queue(**kind)
        policy = json.dumps({"deadLetterTargetArn": dlq.arn, "maxReceiveCount": count})
        return new_queue(RedrivePolicy=policy, **attributes), dlq

    return make


@pytest.fixture(scope="session")
def refused():
    """Calls, and expects the refusal with this code (that of the query protocol, which the SDKs match on)."""

    def check(code, call, *args, **kwargs):
        with pytest.raises(botocore.exceptions.ClientError) as raised:
            call(*args, **kwargs)
        error = raised.value.response
        assert error["Error"]["Code"] in ({code} if isinstance(code, str) else set(code)), error
        assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
        return error["Error"]["Message"]

    return check


@pytest.fixture(scope="session")
def until():
    """Looks until there is something to see."""

    def wait(look, what="it"):
        end = time.monotonic() + GIVE_UP_S
        while time.monotonic() < end:
            seen = look()
            if seen:
                return seen
            time.sleep(0.05)
        raise AssertionError(f"{what} not seen within {GIVE_UP_S} s")

    return wait
