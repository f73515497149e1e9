//! Runs tasks on virtual time, one at a time. Tasks that are due at the same time run in an order that the seed decides.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Number of a task.
pub(crate) type TaskId = usize;

/// Number of the worker process that runs a task. A task without one (server, caller) never dies.
pub(crate) type Owner = Option<usize>;

type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    owner: Owner,
    work: Option<Work>,
}

/// The tasks and their wake-ups.
#[derive(Default)]
pub(crate) struct Scheduler {
    now_ms: Cell<u64>,
    current: Cell<TaskId>,
    wakes: RefCell<BinaryHeap<Reverse<(u64, u64, TaskId)>>>,
    tasks: RefCell<Vec<Task>>,
}

impl Scheduler {
    /// Virtual time since the beginning, in milliseconds.
    pub(crate) const fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// The task that is running.
    pub(crate) const fn current(&self) -> TaskId {
        self.current.get()
    }

    /// Adds a task that is due now.
    pub(crate) fn spawn(&self, owner: Owner, tie: u64, work: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.push(Task { owner, work: Some(Box::pin(work)) });
        self.wake(tasks.len() - 1, self.now_ms(), tie);
    }

    /// Lets the task run at that time; `tie` orders tasks of the same time.
    pub(crate) fn wake(&self, task: TaskId, at_ms: u64, tie: u64) {
        self.wakes.borrow_mut().push(Reverse((at_ms.max(self.now_ms()), tie, task)));
    }

    /// The next task that is due, with its owner. The clock moves to its time.
    pub(crate) fn next(&self) -> Option<(TaskId, Owner)> {
        loop {
            let Reverse((at_ms, _, task)) = self.wakes.borrow_mut().pop()?;
            let tasks = self.tasks.borrow();
            if tasks[task].work.is_some() {
                self.now_ms.set(at_ms);
                return Some((task, tasks[task].owner));
            }
        }
    }

    /// Runs the task until it waits again.
    pub(crate) fn run(&self, task: TaskId) {
        let Some(mut work) = self.tasks.borrow_mut()[task].work.take() else { return };
        self.current.set(task);
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.tasks.borrow_mut()[task].work = Some(work);
        }
    }

    /// Lets all tasks of a process run now.
    pub(crate) fn wake_all(&self, owner: usize, random: &super::random::Random) {
        let tasks: Vec<_> = self.tasks.borrow().iter().map(|task| task.owner == Some(owner)).collect();
        for (task, _) in tasks.iter().enumerate().filter(|(_, of_owner)| **of_owner) {
            self.wake(task, self.now_ms(), random.next());
        }
    }

    /// Drops the tasks of a process that died.
    pub(crate) fn kill(&self, owner: usize) {
        let of_owner = |task: &&mut Task| task.owner == Some(owner);
        let dropped: Vec<_> =
            self.tasks.borrow_mut().iter_mut().filter(of_owner).map(|task| task.work.take()).collect();
        drop(dropped);
    }

    /// Drops all tasks: they hold the world that holds this scheduler.
    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(dropped);
    }
}

/// What ended first.
pub(crate) enum Either<A, B> {
    First(A),
    Second(B),
}

/// The result of the future that ends first; of both, that of the first.
pub(crate) async fn race<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> Either<A, B> {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(done) = first.as_mut().poll(cx) {
            return Poll::Ready(Either::First(done));
        }
        second.as_mut().poll(cx).map(Either::Second)
    })
    .await
}

/// The results of both.
pub(crate) async fn join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (mut of_first, mut of_second) = (None, None);
    std::future::poll_fn(move |cx| {
        if of_first.is_none()
            && let Poll::Ready(done) = first.as_mut().poll(cx)
        {
            of_first = Some(done);
        }
        if of_second.is_none()
            && let Poll::Ready(done) = second.as_mut().poll(cx)
        {
            of_second = Some(done);
        }
        match (of_first.take(), of_second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (of_first, of_second) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}
