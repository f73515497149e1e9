"""The aws command line. Version 1 does not read AWS_ENDPOINT_URL_SQS, so every command names the endpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AWS = Path(sys.executable).parent / "aws"


@pytest.fixture
def aws(endpoint):
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_PAGER": ""}

    def run(*arguments, fails=False):
        command = [AWS, "--output", "json", "--endpoint-url", endpoint, "sqs", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else json.loads(done.stdout or "{}")

    return run


def test_the_command_line_sends_receives_and_deletes(aws, queue):
    sent = aws("send-message", "--queue-url", queue.url, "--message-body", "from the command line", "--message-group-id", "tenant")
    (got,) = aws("receive-message", "--queue-url", queue.url, "--wait-time-seconds", "5")["Messages"]
    assert (got["MessageId"], got["Body"]) == (sent["MessageId"], "from the command line")
    aws("delete-message", "--queue-url", queue.url, "--receipt-handle", got["ReceiptHandle"])
    assert (queue.count(), queue.count("NotVisible")) == (0, 0)


def test_the_command_line_names_the_error(aws, queue):
    said = aws("get-queue-url", "--queue-name", "nowhere", fails=True)
    assert "AWS.SimpleQueueService.NonExistentQueue" in said


def test_the_command_line_moves_dead_letters(aws, dead_letters):
    queue, dlq = dead_letters()
    dlq.send("back")
    assert aws("start-message-move-task", "--source-arn", dlq.arn, "--destination-arn", queue.arn)["TaskHandle"]
    assert queue.one(wait=10)["Body"] == "back"
