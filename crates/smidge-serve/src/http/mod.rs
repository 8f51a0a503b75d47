//! What any HTTP server of ours needs: a listener that ends gracefully, bodies that stream both
//! ways with bounded memory, and clients that may be slow but not for ever.

mod answer;
mod body;
mod fault;
mod patience;
mod receive;
mod server;
mod uri;
mod worker;

pub(crate) use answer::{Answer, CONTENT_DIGEST};
pub(crate) use body::Body;
pub(crate) use fault::{Code, Fault, explained, method_not_allowed};
pub(crate) use receive::{blocking, drain, receive, receive_bytes};
pub(crate) use server::{Handler, serve};
pub(crate) use uri::{Query, decode, encode};
pub(crate) use worker::Worker;
