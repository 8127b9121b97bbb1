//! The HTTP surface: one file a group of routes, and the app that joins them.

mod app;
mod body;
mod body_room;
mod error;
mod health;
mod instrument;
mod manage;
mod predict;
mod request_id;
mod upload;

pub(crate) use app::{App, router};
