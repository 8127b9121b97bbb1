//! The HTTP surface: one file a group of routes, and the app that joins them.

mod access;
mod app;
mod attempt;
mod audit;
mod body;
mod body_room;
mod error;
mod gzip;
mod health;
mod instrument;
mod manage;
mod outgoing;
mod patience;
mod predict;
mod request_id;
mod seldom;
mod target;
mod upload;
mod upload_body;
mod web_page;

pub(crate) use access::{ANONYMOUS, Access};
pub(crate) use app::{App, Routes, router};
pub(crate) use body_room::Held;
pub(crate) use upload::receive;
