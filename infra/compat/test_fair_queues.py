"""Fair queues: a standard queue hands out the messages of quiet groups first (developer guide, "How Amazon SQS fair queues work")."""


def flood(queue, group, count):
    for _ in range(count):
        queue.send(group, MessageGroupId=group)


def bodies(queue, count):
    return [queue.one()["Body"] for _ in range(count)]


def test_quiet_groups_come_before_a_noisy_one(queue):
    flood(queue, "noisy", 45)
    assert bodies(queue, 40) == ["noisy"] * 40
    flood(queue, "quiet", 2)
    assert bodies(queue, 2) == ["quiet"] * 2


def test_a_noisy_group_is_not_held_back_when_nobody_else_waits(queue):
    flood(queue, "noisy", 45)
    assert bodies(queue, 45) == ["noisy"] * 45


def test_a_message_without_a_group_is_a_quiet_tenant(queue):
    flood(queue, "noisy", 45)
    bodies(queue, 40)
    queue.send("alone")
    assert bodies(queue, 1) == ["alone"]
