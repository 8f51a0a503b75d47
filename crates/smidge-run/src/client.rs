//! A client as its supervisor sees it: a socket, and replies that it has had no room for yet.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::message::{self, Reply, Streams};

/// One attached client, or one that waits.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    /// Which streams it wants; none before it has joined.
    pub(crate) streams: Streams,
    /// Whether it is to hear of the end.
    pub(crate) joined: bool,
    pub(crate) gone: bool,
    /// Whether it has stopped the container's processes.
    pub(crate) halts: bool,
    /// Whether it has been told everything that it is to hear.
    pub(crate) leaving: bool,
    queue: VecDeque<Vec<u8>>,
}

impl Client {
    /// A client that has not said what it wants.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            streams: Streams::default(),
            joined: false,
            gone: false,
            halts: false,
            leaving: false,
            queue: VecDeque::new(),
        }
    }

    /// Joins it with some streams.
    pub(crate) fn join(&mut self, streams: Streams) {
        self.streams = streams;
        self.joined = true;
    }

    /// Tells it something, now or as soon as it has room.
    pub(crate) fn tell(&mut self, reply: &Reply<'_>) {
        if !self.gone {
            self.queue.push_back(reply.encode());
            self.flush();
        }
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while let Some(packet) = self.queue.front() {
            match message::send(&self.socket, packet) {
                Ok(true) => {
                    self.queue.pop_front();
                }
                Ok(false) => return,
                Err(_) => self.gone = true,
            }
            if self.gone {
                self.queue.clear();
            }
        }
    }

    /// Whether replies wait for room.
    pub(crate) fn lags(&self) -> bool {
        !self.queue.is_empty()
    }
}
