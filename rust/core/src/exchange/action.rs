//! What has to happen in the world: the only way the engine speaks.

use crate::balance::Address;
use std::time::Duration;

/// One connection: a client's, or one to an endpoint. Numbers are reused after `lost`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnId {
    Down(u32),
    Up(u32),
}

/// To be carried out in order, after the engine has returned.
#[derive(Debug)]
pub enum Action {
    /// Bytes to send.
    Write {
        conn: ConnId,
        data: Vec<u8>,
    },
    /// Bytes to send that are ciphertext already.
    Sealed {
        conn: ConnId,
        data: Vec<u8>,
    },
    /// Bytes to send, as a range of the input the engine was just given.
    WriteInput {
        conn: ConnId,
        start: usize,
        end: usize,
    },
    /// Half-close after what was written.
    WriteEof(ConnId),
    /// Close after what was written.
    Close(ConnId),
    /// Close now.
    Abort(ConnId),
    Pause(ConnId),
    Resume(ConnId),
    /// The connection carries nothing but bytes from now on: it may be read and written in the cheapest way there is.
    Direct(ConnId),
    /// Open a connection; report `connected` or `connect_failed` for this number.
    Connect {
        up: u32,
        address: Address,
        timeout: Duration,
    },
    /// Call [`super::Engine::flush`] when the callbacks of this turn of the loop are done.
    Flush,
    /// Run the plugins of this exchange; report `plugin_done`.
    Plugin {
        exchange: u32,
        serial: u64,
        response: bool,
    },
}

impl Action {
    /// Whether it would send nothing.
    pub fn is_empty_write(&self) -> bool {
        matches!(self, Action::Write { data, .. } if data.is_empty())
    }

    /// The open connection it is about, if any.
    pub fn connection(&self) -> Option<ConnId> {
        match self {
            Action::Write { conn, .. }
            | Action::Sealed { conn, .. }
            | Action::WriteInput { conn, .. }
            | Action::WriteEof(conn)
            | Action::Close(conn)
            | Action::Abort(conn)
            | Action::Pause(conn)
            | Action::Resume(conn)
            | Action::Direct(conn) => Some(*conn),
            Action::Connect { .. } | Action::Plugin { .. } | Action::Flush => None,
        }
    }
}

/// Pieces smaller than this are copied together instead of being written one by one.
const COPY_BELOW: usize = 16 << 10;

/// The actions of one callback, and the buffers they are made of.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
    spare: Vec<Vec<u8>>,
}

impl Actions {
    pub fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    /// The buffer that will be sent to `conn` next; written to by appending.
    pub fn buffer(&mut self, conn: ConnId) -> &mut Vec<u8> {
        let open = matches!(self.list.last(), Some(Action::Write { conn: last, .. }) if *last == conn);
        if !open {
            let data = self.spare.pop().unwrap_or_default();
            self.list.push(Action::Write { conn, data });
        }
        match self.list.last_mut() {
            Some(Action::Write { data, .. }) => data,
            _ => unreachable!("a Write was just pushed"),
        }
    }

    /// What a TLS session itself says.
    pub fn seal(&mut self, conn: ConnId, data: Vec<u8>) {
        if data.is_empty() {
            self.keep(data);
        } else {
            self.list.push(Action::Sealed { conn, data });
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Action> {
        self.list.iter()
    }

    /// A buffer to be filled.
    pub fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps the buffer of what was sent in another form.
    pub fn keep(&mut self, mut data: Vec<u8>) {
        if data.capacity() <= 32 << 10 && self.spare.len() < 8 {
            data.clear();
            self.spare.push(data);
        }
    }

    /// Takes back a buffer that nothing was written to.
    pub fn drop_empty(&mut self) {
        if self.list.last().is_some_and(Action::is_empty_write) {
            if let Some(Action::Write { data, .. }) = self.list.pop() {
                self.spare.push(data);
            }
        }
    }

    /// Sends `input[range]`: large pieces by reference where `direct` (the caller's own input), others copied.
    pub fn forward(&mut self, conn: ConnId, input: &[u8], range: std::ops::Range<usize>, direct: bool) {
        if direct && range.len() >= COPY_BELOW {
            self.push(Action::WriteInput { conn, start: range.start, end: range.end });
        } else {
            self.buffer(conn).extend_from_slice(&input[range]);
        }
    }

    /// Hands over everything; give the vector back through [`Actions::recycle`].
    pub fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.list)
    }

    pub fn recycle(&mut self, mut list: Vec<Action>) {
        for action in list.drain(..) {
            if let Action::Write { data, .. } | Action::Sealed { data, .. } = action {
                self.keep(data);
            }
        }
        if self.list.is_empty() && self.list.capacity() < list.capacity() {
            self.list = list;
        }
    }
}
