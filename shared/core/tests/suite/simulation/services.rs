//! What runs beside the deliveries: intake, reaper, the callers, and the platform that replaces workers that died.

use std::rc::Rc;

use toolfleet_core::call::Event;
use toolfleet_core::ids::Nonce;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome};
use toolfleet_core::retention::RETENTION_MS;

use super::delivery::{Delivery, Disposition, run};
use super::planted::Planted;
use super::queue::{Body, MAX_RECEIVES, Queue};
use super::scenario::{LEASE_MS, REAP_AFTER_MS};
use super::world::{Process, UnderWay, World};
use super::{control, permits};

/// How long a receive waits for a message.
const LONG_POLL_MS: u64 = 20_000;
/// How long a worker that was asked to stop lets calls run on.
const DRAIN_MS: u64 = 100_000;
/// The pause between two scans of the dead-letter queue.
const SCAN_AGAIN_MS: u64 = 30_000;

/// Starts a worker process.
pub(crate) fn start(world: &Rc<World>) {
    let process = world.new_process();
    let owner = Some(process.index);
    world.spawn(owner, intake(Rc::clone(world), Rc::clone(&process)));
    if !world.scenario.orders.is_empty() {
        world.spawn(owner, control::reader(Rc::clone(world), Rc::clone(&process)));
    }
    world.spawn(owner, reaper(Rc::clone(world), process));
}

/// Receives messages while slots are free.
async fn intake(world: Rc<World>, process: Rc<Process>) {
    let reads = !world.scenario.orders.is_empty() && !world.is_planted(Planted::StartBeforeControl);
    while reads && !process.has_read_control.get() && !process.draining.get() {
        world.sleep(20).await;
    }
    while !process.draining.get() {
        let free = world.scenario.slots.saturating_sub(process.slots_used.get());
        let now = process.clock(&world);
        let paused = process.control.borrow().pause_of_queue("default", now).is_some()
            && !world.is_planted(Planted::IgnoreQueuePause);
        if free == 0 || paused {
            world.sleep(50).await;
            continue;
        }
        process.slots_used.set(process.slots_used.get() + 1);
        let most = free.min(10);
        let received = world
            .aws(|| {
                let dead = Some(&world.dead);
                world.queue.receive(&world.random, world.now_ms(), most, LEASE_MS, dead)
            })
            .await;
        process.slots_used.set(process.slots_used.get() - 1);
        let received = received.unwrap_or_default();
        let none = received.is_empty();
        for message in received {
            let (index, call) = (process.index, message.body.call);
            world.note(Some(call), || {
                let (id, times) = (message.id, message.receives);
                format!("worker {index} receives message {id}, its receive {times}")
            });
            control::receives(&world, call, &process);
            process.slots_used.set(process.slots_used.get() + 1);
            process.deliveries.set(process.deliveries.get() + 1);
            world.spawn(Some(index), run(Rc::clone(&world), Rc::clone(&process), message));
        }
        note_dead_letters(&world);
        if none {
            wait_for_message(&world, &world.queue).await;
        }
    }
}

/// Waits until a message may be visible.
async fn wait_for_message(world: &World, queue: &Queue) {
    let until_ms = world.now_ms() + LONG_POLL_MS;
    let next_ms = queue.next_visible_ms().unwrap_or(until_ms).clamp(world.now_ms() + 20, until_ms);
    queue.wait(world.scheduler.current());
    let waiting = std::cell::Cell::new(true);
    let woken = std::future::poll_fn(|_| {
        // The first poll is the one that begins to wait; any later one is a wake-up.
        if waiting.replace(false) { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    });
    super::scheduler::race(woken, world.sleep_until(next_ms)).await;
}

fn note_dead_letters(world: &World) {
    for (call, truth) in world.truth.borrow_mut().iter_mut().enumerate() {
        if !truth.dead_lettered && world.dead.has(call) {
            truth.dead_lettered = true;
            world.note(Some(call), || {
                format!("a message went to the dead-letter queue after {MAX_RECEIVES} receives")
            });
        }
    }
}

/// Ends dead letters that are due.
async fn reaper(world: Rc<World>, process: Rc<Process>) {
    while !process.draining.get() {
        let now_ms = world.now_ms();
        let received = world.aws(|| world.dead.receive(&world.random, now_ms, 10, 60_000, None)).await;
        for message in received.unwrap_or_default() {
            let nonce = u128::from(world.random.next());
            let delivery = Delivery::new(&world, &process, message, Nonce::from_random(nonce));
            reap(&delivery).await;
        }
        world.sleep(SCAN_AGAIN_MS).await;
    }
}

async fn reap(delivery: &Delivery) {
    let under_way = UnderWay::new(&delivery.world);
    let world = &delivery.world;
    let due = delivery.enqueued_at().plus_ms(REAP_AFTER_MS).min(delivery.deadline());
    if delivery.now() < due {
        let receipt = delivery.message.receipt;
        let _ = world.aws(|| world.dead.hide(receipt, world.now_ms(), 0)).await;
        return;
    }
    let why = CallError::new(Code::DeadLettered, "received too often", MayHaveRun::No).retryable(None);
    match delivery.record_unexecuted(Outcome::failed(why)).await {
        Ok(Disposition::Completed) => delivery.complete(&world.dead).await,
        Ok(Disposition::Requeued { .. } | Disposition::Parked { .. } | Disposition::TakenOver) | Err(_) => {}
    }
    drop(under_way);
}

/// A caller sends its messages and cancels its call.
pub(crate) fn call(world: &Rc<World>, call: usize) {
    let spec = world.scenario.calls[call].clone();
    for (at_ms, asks) in spec.sends {
        let sender = Rc::clone(world);
        world.spawn(None, async move {
            sender.sleep_until(at_ms).await;
            let (first_sent_ms, first_message, turns) = (None, None, Vec::new());
            let body = Body { call, asks, first_sent_ms, first_message, parks: 0, turns, polls: false };
            let id = sender.queue.send(body, sender.now_ms(), 0);
            sender.to_send.set(sender.to_send.get() - 1);
            sender.note(Some(call), || format!("the caller sends message {id}, {asks:?}"));
            sender.wake_receivers(&sender.queue);
        });
    }
    let Some(cancel_ms) = spec.cancel_ms else { return };
    let caller = Rc::clone(world);
    world.spawn(None, async move {
        caller.sleep_until(cancel_ms).await;
        let (key, now) = (caller.keys[call].clone(), caller.true_time(caller.now_ms()));
        let event = Event::Cancel { key, now, expires_at: now.plus_ms(RETENTION_MS) };
        caller.note(Some(call), || "the caller cancels the call".to_owned());
        let under_way = UnderWay::new(&caller);
        let _ = caller.apply(None, call, None, &event).await;
        drop(under_way);
    });
}

/// Kills a process as `kill -9` does, and starts another one soon.
pub(crate) fn kill(world: &Rc<World>, process: &Process) {
    process.alive.set(false);
    world.note(None, || format!("worker {} dies", process.index));
    lose_claims(world, process);
    world.scheduler.kill(process.index);
    let after_ms = world.random.between(500, 20_000);
    restart_after(world, after_ms);
}

/// Stops a process for a while, as SIGSTOP does.
pub(crate) fn freeze(world: &World, process: &Process) {
    let ms = if world.random.chance(500) {
        world.random.below(5_000)
    } else {
        world.random.between(20_000, 90_000)
    };
    world.note(None, || format!("worker {} is frozen for {ms} ms", process.index));
    lose_claims(world, process);
    process.frozen_until_ms.set(world.now_ms() + ms);
}

/// Asks a process to stop, as SIGTERM does.
pub(crate) fn drain(world: &Rc<World>, process: &Rc<Process>) {
    world.note(None, || format!("worker {} drains", process.index));
    process.draining.set(true);
    let over_ms = world.now_ms() + DRAIN_MS;
    process.over_ms.set(Some(over_ms));
    let (platform, process) = (Rc::clone(world), Rc::clone(process));
    world.spawn(None, async move {
        platform.sleep_until(over_ms).await;
        platform.scheduler.wake_all(process.index, &platform.random);
        platform.sleep(60_000).await;
        if process.alive.replace(false) {
            lose_claims(&platform, &process);
            platform.scheduler.kill(process.index);
        }
    });
    restart_after(world, 1_000);
}

fn restart_after(world: &Rc<World>, ms: u64) {
    let platform = Rc::clone(world);
    world.spawn(None, async move {
        platform.sleep(ms).await;
        start(&platform);
    });
}

/// What a process that is lost had claimed may end as unknown.
fn lose_claims(world: &World, process: &Process) {
    if process.unwritten.get() > 0 {
        world.task_permit_lost.set(true);
    }
    permits::lose_tasks(world, process);
    for truth in &mut *world.truth.borrow_mut() {
        truth.cut |= truth.holder.as_ref().is_some_and(|holder| holder.process == process.index);
    }
}
