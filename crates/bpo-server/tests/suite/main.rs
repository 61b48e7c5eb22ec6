//! Tests of the client against scripted servers, and against a real one.

mod hostile;
mod mock;
mod openai;
mod real_server;
