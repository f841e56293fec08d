//! Which streams of a session may go on: wakers that note a number instead of waking a task.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Numbers of streams, each at most once, oldest first.
#[derive(Debug, Default)]
pub struct Ready(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue(Mutex<VecDeque<Arc<Note>>>);

#[derive(Debug)]
struct Note {
    stream: u32,
    queued: AtomicBool,
    queue: Arc<Queue>,
}

/// What a stream is woken by.
#[derive(Debug)]
pub struct Bell {
    note: Arc<Note>,
    pub waker: Waker,
}

impl Ready {
    pub fn bell(&self, stream: u32) -> Bell {
        let note = Arc::new(Note { stream, queued: AtomicBool::new(false), queue: self.0.clone() });
        Bell { waker: Waker::from(note.clone()), note }
    }

    /// The stream that has been ready longest.
    pub fn next(&self) -> Option<u32> {
        let note = self.0 .0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        note.queued.store(false, Ordering::Relaxed);
        Some(note.stream)
    }

    pub fn is_empty(&self) -> bool {
        self.0 .0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Bell {
    pub fn ring(&self) {
        self.note.wake_by_ref();
    }
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.queue.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.clone());
        }
    }
}
